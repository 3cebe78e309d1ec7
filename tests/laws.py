"""Exact laws that every engine must reproduce. NumPy and SciPy only; nothing of jaxevo is read here.

A `Process` is a multitype branching process in continuous time: cells are independent, and one cell
of type i divides at rate b_i, dies at d_i and turns into a cell of type j at rate m_ij (all 1/day,
constant within a segment). At a division a mutation to j has probability u_ij, under one of two
conventions:

    one    with probability u_ij one of the two daughters is j, the other is i
    both   each daughter on its own is j with probability u_ij

A division differentiates instead with probability a_ij (asymmetric: one daughter is j, the other i) or
v_ij (symmetric: both daughters are j); then it makes no mutation. Cells of type j come from outside in
batches of n_j at r_j events per day (a Poisson process), and at the start of a segment each cell of
type i survives with probability k_i, on its own.

Types are the pairs (class, site); conversion is switching and migration. Sources: Kendall 1948,
10.1214/aoms/1177730285 (one type); Athreya & Ney, Branching Processes (1972), chapter V (many), and
VI.7 (immigration). Days, rates per day, cells.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm, solve_banded
from scipy.special import betaln


class Law(NamedTuple):
    """A discrete law: ascending values and their probabilities."""

    values: np.ndarray  # [outcome]
    probabilities: np.ndarray  # [outcome], sums to 1

    @property
    def mean(self) -> float:
        """E[X]."""
        return float(self.probabilities @ self.values)

    @property
    def variance(self) -> float:
        """E[(X - E X)^2]."""
        return float(self.probabilities @ (self.values - self.mean) ** 2)

    def probability(self, value: float) -> float:
        """P(X = value)."""
        return float(self.probabilities[self.values == value].sum())


# --- one type --------------------------------------------------------------------------------------


class BirthDeath(NamedTuple):
    """Descendants of one founder: P(0) = alpha, P(n) = (1 - alpha)(1 - beta) beta^(n - 1)."""

    alpha: float
    beta: float
    log_mean: float  # -rho = integral of b - d

    def generating_function(self, s):
        """E[s^n] for one founder."""
        return self.alpha + (1 - self.alpha) * (1 - self.beta) * s / (1 - self.beta * s)

    def extinction(self, founders: int = 1) -> float:
        """P(no descendant of `founders` cells), alpha^founders."""
        return self.alpha**founders

    def mean(self, founders: int = 1) -> float:
        """founders e^-rho."""
        return founders * math.exp(self.log_mean)

    def variance(self, founders: int = 1) -> float:
        """founders m (1 + beta)/(1 - beta) - founders m^2, rewritten with m = (1-alpha)/(1-beta)."""
        m = math.exp(self.log_mean)
        return founders * m * (self.alpha + self.beta) / (1 - self.beta)

    def law(self, founders: int = 1) -> Law:
        """The whole law of the descendants of `founders` cells, by FFT of the generating function."""
        phi = lambda z: self.generating_function(z[:, 0]) ** founders  # noqa: E731
        return _invert(phi, np.ones(1, int), self.mean(founders), self.variance(founders))


def birth_death(durations: Sequence[float], birth: Sequence, death: Sequence) -> BirthDeath:
    """Kendall's law (E01, E05) for rates that are constant in each segment.

    rho(t) = int_0^t (d - b),  I = int e^rho d,  J = int e^rho b,  1 + I = e^rho(T) + J;
    alpha = I/(1 + I),  beta = J/(1 + I). For constant rates this is alpha = d(E-1)/(bE-d),
    E = e^((b-d)t), beta = alpha b/d. Kendall 1948, 10.1214/aoms/1177730285.
    """
    rho, dead, born = 0.0, 0.0, 0.0
    for h, b, d in zip(durations, birth, death, strict=True):
        weight = math.exp(rho) * (math.expm1((d - b) * h) / (d - b) if d != b else h)
        dead, born, rho = dead + d * weight, born + b * weight, rho + (d - b) * h
    return BirthDeath(dead / (1 + dead), born / (1 + dead), -rho)


# --- many types ------------------------------------------------------------------------------------


class Process(NamedTuple):
    """A multitype branching process in segments of constant rates (see the module docstring)."""

    durations: np.ndarray  # [segment], days
    birth: np.ndarray  # [segment, type]
    death: np.ndarray  # [segment, type]
    mutation: np.ndarray  # [type, type] from, to; diagonal 0; per division, or per daughter if both
    conversion: np.ndarray  # [segment, type, type] from, to; diagonal 0; 1/day
    both_daughters: bool
    asymmetric: np.ndarray  # [type, type] from, to; diagonal 0; per division
    symmetric: np.ndarray  # [type, type] from, to; diagonal 0; per division
    arrivals: np.ndarray  # [segment, type] immigration events per day
    batch: np.ndarray  # [type] cells per event
    kept: np.ndarray  # [segment, type] survival at the start of the segment


def process(
    durations,
    birth,
    death,
    mutation=None,
    conversion=None,
    both_daughters=False,
    asymmetric=None,
    symmetric=None,
    arrivals=None,
    batch=1,
    kept=1.0,
) -> Process:
    """A `Process` from anything that broadcasts to its tables; what is left out does not happen."""
    durations = np.atleast_1d(np.asarray(durations, float))
    birth, death = np.broadcast_arrays(np.atleast_1d(birth), np.atleast_1d(death))
    segments, types = len(durations), birth.shape[-1]

    def full(table, *shape):
        return np.broadcast_to(np.asarray(0.0 if table is None else table, float), shape)

    return Process(
        durations,
        full(birth, segments, types),
        full(death, segments, types),
        full(mutation, types, types),
        full(conversion, segments, types, types),
        both_daughters,
        full(asymmetric, types, types),
        full(symmetric, types, types),
        full(arrivals, segments, types),
        np.broadcast_to(batch, types),
        full(kept, segments, types),
    )


def generating_function(law: Process, s: np.ndarray, tolerance: float = 1e-12) -> np.ndarray:
    """E[prod_j s_j^(cells of type j at the end)] for one founder of each type i, [point, type].

    q_i' = d_i - (b_i + d_i + m_i) q_i + b_i B_i(q) + sum_j m_ij q_j, q = s at the end, backward in
    time through the segments; m_i = sum_j m_ij, and with U, A, V the sums over j of u, a, v
    one:  B_i = (1 - U - A - V) q_i^2 + q_i sum_j (u_ij + a_ij) q_j + sum_j v_ij q_j^2
    both: B_i = (1 - A - V) ((1 - U) q_i + sum_j u_ij q_j)^2 + q_i sum_j a_ij q_j + sum_j v_ij q_j^2
    At a segment's start q_i becomes 1 - k_i + k_i q_i. Athreya & Ney 1972, chapter V.7; E07 of the
    validation cases. Immigrants are left out: see `immigrant_factor`.
    """
    return _backward(law, s, tolerance)[0]


def immigrant_factor(law: Process, s: np.ndarray, tolerance: float = 1e-12) -> np.ndarray:
    """E[prod_j s_j^cells] of all that came from outside and its descendants, [point].

    exp(int sum_j r_j (q_j(t)^n_j - 1) dt): arrivals are Poisson, and a batch is n_j independent cells.
    """
    return np.exp(_backward(law, s, tolerance)[1])


def _backward(law: Process, s: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """q [point, type] of one founder, and the log [point] of the immigrants' factor."""
    q = np.atleast_2d(np.asarray(s))
    log_factor = np.zeros(len(q), q.dtype if np.iscomplexobj(q) else float)
    differentiates = law.asymmetric.sum(1) + law.symmetric.sum(1)
    kept = 1 - law.mutation.sum(1)
    for segment in reversed(range(len(law.durations))):
        b, d, m = law.birth[segment], law.death[segment], law.conversion[segment]
        loss = b + d + m.sum(1)
        (comes,) = np.nonzero(law.arrivals[segment])
        arrivals, batch = law.arrivals[segment, comes], law.batch[comes]

        def backward(
            _,
            y,
            b=b,
            d=d,
            m=m,
            loss=loss,
            comes=comes,
            arrivals=arrivals,
            batch=batch,
            shape=q.shape,
        ):
            q = y[: -shape[0]].reshape(shape)
            changed = q @ law.mutation.T
            if law.both_daughters:
                born = (1 - differentiates) * (kept * q + changed) ** 2
            else:
                born = q * ((kept - differentiates) * q + changed)
            if differentiates.any():
                born = born + q * (q @ law.asymmetric.T) + q**2 @ law.symmetric.T
            moved = d - loss * q + b * born + q @ m.T
            return np.concatenate([moved.ravel(), (q[:, comes] ** batch - 1) @ arrivals])

        start = np.concatenate([q.ravel(), log_factor])
        solution = solve_ivp(
            backward,
            (0, law.durations[segment]),
            start,
            "DOP853",
            rtol=tolerance,
            atol=tolerance / 100,
        )
        end = solution.y[:, -1]
        q, log_factor = end[: q.size].reshape(q.shape), end[q.size :]
        q = 1 - law.kept[segment] + law.kept[segment] * q
    return q, log_factor


def probability_of_none(law: Process, founders, types: Sequence[int] | None = None) -> float:
    """P(no cell of these types at the end); of any type if None: P(extinct) (E07)."""
    s = np.ones(law.birth.shape[1])
    s[list(range(s.size)) if types is None else list(types)] = 0
    q, log_factor = _backward(law, s, 1e-12)
    return float(np.prod(q[0] ** np.asarray(founders)) * np.exp(log_factor[0]))


def mean_generator(law: Process, segment: int = -1) -> np.ndarray:
    """A, [from, to], with E[cells]' = E[cells] A for what does not come from outside."""
    a = np.zeros(law.mutation.shape)
    for i, rate, change in _events(law, segment):
        a[i] += rate * change
    return a


def moments(law: Process, founders) -> tuple[np.ndarray, np.ndarray]:
    """Means [type] and covariances [type, type] at the end, by the moment equations.

    E' = E A + r n,  V' = A^T V + V A + sum_i E_i D_i + diag(r n^2),  D_i = sum over events of type i
    of rate x change change^T; linear, so that one matrix exponential per segment is exact. At a jump
    E becomes k E and V_ij becomes k_i k_j V_ij, plus k_i (1 - k_i) E_i on the diagonal.
    Athreya & Ney 1972, chapter V.
    """
    k = law.birth.shape[1]
    unit = np.eye(k)
    mean, covariance = np.asarray(founders, float), np.zeros((k, k))
    for segment, h in enumerate(law.durations):
        kept = law.kept[segment]
        covariance = kept[:, None] * kept * covariance + np.diag(kept * (1 - kept) * mean)
        mean = kept * mean
        a = mean_generator(law, segment)
        noise = np.zeros((k, k, k))
        for i, rate, change in _events(law, segment):
            noise[i] += rate * np.outer(change, change)
        arrivals = law.arrivals[segment] * law.batch
        generator = np.zeros((k + k * k + 1, k + k * k + 1))
        generator[:k, :k] = a.T
        generator[k:-1, :k] = noise.reshape(k, k * k).T
        generator[k:-1, k:-1] = np.kron(a.T, unit) + np.kron(unit, a.T)
        generator[:k, -1] = arrivals
        generator[k:-1, -1] = np.diag(arrivals * law.batch).ravel()
        state = expm(generator * h) @ np.concatenate([mean, covariance.ravel(), [1.0]])
        mean, covariance = state[:k], state[k:-1].reshape(k, k)
    return mean, covariance


def _events(law: Process, segment: int):
    """Every event of a segment: type it happens to, rate per cell, change of the counts."""
    unit = np.eye(law.birth.shape[1])
    differentiates = law.asymmetric.sum(1) + law.symmetric.sum(1)
    for i, (b, d) in enumerate(zip(law.birth[segment], law.death[segment], strict=True)):
        yield i, d, -unit[i]
        for j, rate in enumerate(law.conversion[segment][i]):
            yield i, rate, unit[j] - unit[i]
        for j in range(len(unit)):
            yield i, b * law.asymmetric[i, j], unit[j]
            yield i, b * law.symmetric[i, j], 2 * unit[j] - unit[i]
        daughter = law.mutation[i] + unit[i] * (1 - law.mutation[i].sum())
        if law.both_daughters:
            for (j, p), (k, other) in itertools.product(enumerate(daughter), repeat=2):
                rate = b * (1 - differentiates[i]) * p * other
                yield i, rate, unit[j] + unit[k] - unit[i]
        else:
            for j, p in enumerate(daughter - unit[i] * differentiates[i]):
                yield i, b * p, unit[j]


def marginal(law: Process, founders, weights, tolerance: float = 1e-11) -> Law:
    """The whole law of sum_j weights_j (cells of type j at the end), integer weights, by FFT."""
    weights, founders = np.asarray(weights), np.asarray(founders)
    mean, covariance = moments(law, founders)

    def phi(z: np.ndarray) -> np.ndarray:
        powers = z ** np.abs(weights)
        s = np.where(weights < 0, powers.conj(), powers)
        q, log_factor = _backward(law, s, tolerance)
        return np.prod(q**founders, axis=1) * np.exp(log_factor)

    return _invert(phi, weights, mean @ weights, weights @ covariance @ weights)


def _invert(phi, weights: np.ndarray, mean: float, variance: float) -> Law:
    """The law with characteristic function phi(e^{i theta}), on as many points as its tail needs."""
    signed = bool((weights < 0).any())
    for power in range(7, 22):
        n = 2**power
        if n < abs(mean) + 30 * math.sqrt(variance):
            continue
        z = np.exp(2j * np.pi * np.arange(n // 2 + 1) / n)[:, None]
        pmf = np.maximum(np.fft.irfft(phi(z).conj(), n), 0)
        pmf[pmf < 1e-16] = 0
        values = np.arange(n)
        if signed:
            values, pmf = values - n // 2, np.fft.fftshift(pmf)
        law = Law(values, pmf / pmf.sum())
        # Mass that wraps around moves the variance by about n^2 times itself.
        if abs(law.variance - variance) < 1e-6 * variance:
            kept = np.flatnonzero(pmf)
            inside = slice(kept[0], kept[-1] + 1)
            return Law(values[inside], law.probabilities[inside])
    raise ValueError("the law's tail is too long to be tabulated")


# --- mutants in growing cultures -------------------------------------------------------------------


def luria_delbruck(num_mutations: float, n_max: int, relative_growth: float = 1.0) -> np.ndarray:
    """P(0 .. n_max mutants), the large-culture limit (E02); sums to less than 1 (tail m/n).

    Compound Poisson: m mutations on average, each a clone of k cells with probability
    r_k = B(1 + 1/rho, k)/rho, rho the mutants' growth rate relative to normal cells;
    p_n = (m/n) sum_{k=1..n} k r_k p_{n-k}. rho = 1: Lea & Coulson 1949, 10.1007/BF02986080, in the
    recursion of Ma, Sandri & Sarkar 1992, 10.2307/3214564; else Mandelbrot 1974, 10.2307/3212688,
    and Koch 1982, Mutat. Res. 95:129.
    """
    k = np.arange(1, n_max + 1)
    clone = np.exp(betaln(1 + 1 / relative_growth, k)) / relative_growth
    p = np.zeros(n_max + 1)
    p[0] = math.exp(-num_mutations)
    for n in range(1, n_max + 1):
        p[n] = num_mutations / n * ((k * clone)[:n] @ p[n - 1 :: -1])
    return p


def mutants_at_size(probability: float, sizes: Sequence[int], n_max: int) -> np.ndarray:
    """P(0 .. n_max mutants) when a culture without death first has M cells, exact: [size, n_max + 1].

    One normal founder, equal division rates, one daughter mutates with probability u. The next cell
    to divide is any one of N, so that the number k of mutants is a chain in N, an urn as Polya's:
    k -> k + 1 with probability k/N + (1 - k/N) u, else k. The chain does not depend on time: the law
    given N cells holds however N came about. It tends to `luria_delbruck(m = uM)`; their total
    variation distance is about 2.2/M for m = 2: .0045 at M = 500, .0022 at 1e3, .00022 at 1e4.
    """
    k = np.arange(n_max + 1)
    p = (k == 0).astype(float)
    wanted = {1: p} if 1 in sizes else {}
    for size in range(1, max(sizes)):
        up = k / size + (1 - k / size) * probability
        up = np.minimum(up, 1.0)  # states k > size have no mass
        p = p * (1 - up) + np.concatenate([[0.0], (p * up)[:-1]])
        if size + 1 in sizes:
            wanted[size + 1] = p
    return np.stack([wanted[size] for size in sizes])


def resistance_factor(birth, death, mutant_birth=None, mutant_death=None) -> float:
    """F in P(resistance at M cells) = 1 - exp(-M u F) (E03).

    F = (b/(b-d)) int_0^1 S(ln(1/x)/(b-d)) dx, S(tau) the survival of one mutant for tau (E01); for a
    neutral mutant -ln(1 - d/b)/(d/b), and 1 without death. Iwasa, Nowak & Michor 2006, Genetics
    172:2557.
    """
    mutant_birth = birth if mutant_birth is None else mutant_birth
    mutant_death = death if mutant_death is None else mutant_death
    growth = birth - death

    def survival(x: float) -> float:
        tau = -math.log(x) / growth
        return 1 - birth_death([tau], [mutant_birth], [mutant_death]).alpha

    value, _ = quad(survival, 0, 1, epsabs=1e-13, epsrel=1e-12, limit=500)
    return birth / growth * value


# --- gene copies -----------------------------------------------------------------------------------


def copy_steps(gain: float, loss: float, max_copies: int) -> np.ndarray:
    """[from, to] probability per division of one more and one fewer gene copy; 0 is absorbing (E09).

    Kimmel & Axelrod 1990, Genetics 125:633. A cell with `max_copies` gains no more.
    """
    steps = np.zeros((max_copies + 1, max_copies + 1))
    copies = np.arange(1, max_copies + 1)
    steps[copies, copies - 1] = loss
    steps[copies[:-1], copies[:-1] + 1] = gain
    return steps


def synchronous_share(steps: np.ndarray, start: int, generations: int) -> float:
    """Share of cells with copies after synchronous divisions, each daughter on its own (E09)."""
    daughter = steps + np.diag(1 - steps.sum(1))
    return float(1 - np.linalg.matrix_power(daughter, generations)[start, 0])


# --- crowding --------------------------------------------------------------------------------------


class Logistic(NamedTuple):
    """One site, birth b max(0, 1 - n/K), death d per cell: a finite chain (E14)."""

    birth: float
    death: float
    capacity: float

    def generator(self, n_max: int | None = None) -> np.ndarray:
        """[from, to] rates between 0 .. n_max cells; n_max is K rounded up unless told."""
        n = np.arange((math.ceil(self.capacity) if n_max is None else n_max) + 1)
        up = self.birth * n * np.maximum(0, 1 - n / self.capacity)
        down = self.death * n
        return np.diag(up[:-1], 1) + np.diag(down[1:], -1) - np.diag(up + down)

    def law(self, founders: int, time: float) -> Law:
        """Cells after `time` days, by the matrix exponential of the master equation."""
        n_max = max(math.ceil(self.capacity), founders)
        p = expm(self.generator(n_max) * time)[founders]
        return Law(np.arange(n_max + 1), np.maximum(p, 0) / p.sum())

    def mean_extinction_time(self, founders: int) -> float:
        """Mean days to extinction: -A T = 1 on the living states."""
        a = self.generator()[1:, 1:]
        bands = np.zeros((3, len(a)))
        bands[0, 1:], bands[1], bands[2, :-1] = np.diag(a, 1), np.diag(a), np.diag(a, -1)
        return float(solve_banded((1, 1), bands, -np.ones(len(a)))[founders - 1])

    def quasi_stationary(self) -> Law:
        """The law given survival after a long time: the leading left eigenvector."""
        values, vectors = np.linalg.eig(self.generator()[1:, 1:].T)
        leading = np.abs(vectors[:, np.argmax(values.real)].real)
        return Law(np.arange(1, len(leading) + 1), leading / leading.sum())
