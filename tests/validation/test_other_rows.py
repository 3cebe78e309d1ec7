"""The laws hold beyond the printed rows: random parameters against independent solutions by SciPy."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm

from jaxevo.engines import extinction, meanfield
from jaxevo.engines.base import Record
from jaxevo.selftest.problem import branching, moments, no_cell, relapse_probability
from tests import builders, laws
from tests.builders import build
from tests.models import (
    estipop,
    gompertz_switch,
    hierarchy_cml,
    immune_window,
    lotka_volterra,
    parpi,
    zhang_abiraterone,
)
from tests.models.following import day_of, states
from tests.validation import competition, drugs, dual_therapy, populations

few = settings(max_examples=2)
some = settings(max_examples=4)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """A plain number; its digits are cut so that examples are readable."""
    return st.floats(low, high).map(lambda x: float(f"{x:.4g}"))


def rising(law, start, days, **options):
    """SciPy's solution of y' = law(t, y)."""
    given = {"method": "LSODA", "rtol": 1e-11, "atol": 1e-12} | options
    return solve_ivp(law, (0, days), start, **given)


# --- V cases ---------------------------------------------------------------------------------------


@pytest.mark.slow
@few
@given(
    exponent=between(7, 11.5), n12=st.integers(0, 3), n=st.tuples(*(st.integers(5, 80),) * 2),
    d=between(0.10, 0.13), d_on=between(0.15, 0.25), cost=between(0, 0.3),
)  # fmt: skip
def test_v02_eradication_of_any_patient(exponent, n12, n, d, d_on, cost):
    """The large-M limit law by LSODA; what it drops is of the order u n ln(M s)/s."""
    p = dual_therapy.Patient(float(round(10**exponent)), n12, *n, d=d, d_on=d_on, cost=cost)
    expected = dual_therapy.failure(p)
    np.testing.assert_allclose(relapse_probability(dual_therapy.treated(p, 2)), expected, rtol=1e-3)


@some
@given(
    n0=between(0.1, 0.75), share=between(1e-4, 0.3), cost=between(0, 0.6), turnover=between(0, 0.3),
    effect=between(1.2, 2.0),
)  # fmt: skip
def test_v04_and_v07_progression_of_any_patient(n0, share, cost, turnover, effect):
    """Continuous and adaptive therapy, whole day by whole day, by DOP853 with events."""
    who = lotka_volterra.patient(n0, share, cost, turnover)._replace(effect=effect)

    def change(_, y, dose):
        free = 1 - y.sum()
        sensitive = who.sensitive_growth * free * (1 - effect * dose) - who.sensitive_death
        resistant = who.resistant_growth * free - who.resistant_death
        return y * np.array([sensitive, resistant])

    def crossing(_, y, dose):
        return y.sum() - 1.2 * n0

    crossing.terminal = True
    for rule in ("ct", "at50"):
        y, dose, day = np.array([who.sensitive, who.resistant]), 1.0, 0
        while day < 2_000:
            found = rising(change, y, 1, args=(dose,), events=crossing, method="DOP853", atol=1e-14)
            if found.t_events[0].size:
                break
            y, day = found.y[:, -1], day + 1
            if rule == "at50":
                dose = 0.0 if y.sum() < n0 / 2 else 1.0 if y.sum() > n0 else dose
        expected = day + found.t_events[0][0] if found.t_events[0].size else math.inf
        obtained = lotka_volterra.progression(who, rule, 2_000)
        assert obtained == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@few
@given(cut=between(0, 0.9), damage=between(0.55, 0.9), hill=between(1, 4), loss=between(0.05, 0.5))
def test_v05_any_cut_and_any_line(cut, damage, hill, loss):
    """P' and A' as printed, by LSODA from break to break."""
    params = {"damage": damage, "hill": hill, "loss": loss}
    p = parpi.OVCAR3 | params

    def change(_, y, dose):
        growth = p["growth"] * (1 - (y.sum() / p["capacity"]) ** p["shape"]) * y[0]
        hit = damage * dose**hill / (p["ec50"] ** hill + dose**hill)
        arrested = (1 + p["swelling"]) * hit * growth - loss * y[1]
        return np.array([growth * (1 - 2 * hit), arrested])

    y = np.array([5.0, 0.0])
    for _ in range(10):
        y = rising(change, y, 18 * (1 - cut), args=(100.0,)).y[:, -1]
        y = rising(change, y, 18 * cut, args=(0.0,)).y[:, -1]
    problem = parpi.problem({"only": parpi.breaks(cut)}, params=params)
    obtained = parpi.area(states(problem, [180.0])[0][0], p)
    np.testing.assert_allclose(obtained, y.sum(), rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@few
@given(
    tki=between(1, 14), pz=between(100, 3000), kz=between(50, 500), pyx=between(1e-3, 0.5),
    pxy=between(1e-3, 0.3), y0=between(1e4, 7e5),
)  # fmt: skip
def test_v06_any_immune_patient(tki, pz, kz, pyx, pxy, y0):
    """X, Y, Z at the stop (month 20) and 3 months later, by LSODA."""
    params = {"tki": tki, "pz": pz, "kz": kz, "pyx": pyx, "pxy": pxy}
    p = immune_window.SHARED | params
    x0, y0 = immune_window.first_quiescent(params, y0), float(round(y0))
    z0 = immune_window.first_immune(params, y0)

    def change(_, state, drug):
        x, y, z = state
        growth = p["py"] * (1 - y / p["ky"]) - p["m"] * z - tki * drug
        immune = p["rz"] - p["a"] * z + pz * y * z / (kz**2 + y**2)
        return [-pxy * x + pyx * y, pxy * x - pyx * y + growth * y, immune]

    on = rising(change, [float(round(x0)), y0, z0], 20, args=(1.0,)).y[:, -1]
    off = rising(change, on, 3, args=(0.0,)).y[:, -1]
    problem = immune_window.problem(params, y0, 20.0, 24.0, x0=x0, z0=z0)
    count, extra = states(problem, [20 * immune_window.MONTH, 23 * immune_window.MONTH])
    obtained = np.stack([count[:, 1], count[:, 0], extra[:, 0]], axis=1)
    np.testing.assert_allclose(obtained, [on, off], rtol=1e-6)


@pytest.mark.slow
@few
@given(sensitive=between(20, 9_000), resistant=between(1, 4_000), days=between(1, 40))
def test_v08_any_state(sensitive, resistant, days):
    """The untreated flow and the flow on abiraterone, by LSODA."""
    scale = 1e6

    def change(_, y, drug):
        xs, xr = y
        return [
            8 * 0.0156 * xs * (1 - (xs + xr) / (10_000 - 9_000 * drug)),
            8 * 0.0091 * xr * (1 - (xr + 6 * xs) / 10_000),
        ]

    for drug, on in ((0, ()), (1, ((0.0, 50.0),))):
        expected = rising(change, [sensitive, resistant], days, args=(drug,)).y[:, -1]
        problem = zhang_abiraterone.problem(sensitive, resistant, 50.0, on, scale=scale)
        obtained = states(problem, [days])[0][0] / scale
        np.testing.assert_allclose(obtained, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@few
@given(
    top=between(0.01, 0.05), inhibited=between(0.3, 1), ec50=between(0.1, 20), hill=between(1, 4),
    dose=between(50, 1_000), half_life=between(3, 60),
)  # fmt: skip
def test_v09_any_line_and_tablet(top, inhibited, ec50, hill, dose, half_life):
    """E[N] by adaptive quadrature of the closed form of the level."""
    fit, kinetics = (top, inhibited, ec50, hill), {
        "volume": 233.0, "elimination": math.log(2) / half_life, "absorption": 0.95,
    }  # fmt: skip
    root = meanfield.simulate(drugs.treated_line(fit, dose, 5, **kinetics))[""]
    obtained = float(np.asarray(root["burden"].data)[0, 0, 0, -1])
    expected = drugs.expected_cells(fit, dose, 5, **kinetics)
    np.testing.assert_allclose(obtained, expected, rtol=1e-4)


@few
@given(net=between(-0.02, 0.04), death=between(0.001, 0.03), hours=between(24, 96))
def test_v09_the_death_rate_comes_back_from_the_apoptotic_percentage(net, death, hours):
    """The inverse of the printed formula, which is the extinct share of Kendall's law."""
    death = max(death, -net + 1e-4)  # a birth rate above zero
    percent = drugs.apoptotic_percent(net, death, hours)
    alpha = laws.birth_death([hours], [net + death], [death]).alpha
    assert percent == pytest.approx(100 * alpha, rel=1e-9)
    assert drugs.death_of(percent, net, hours) == pytest.approx(death, rel=1e-6)


@few
@given(b=between(0, 0.5), d=between(0.05, 0.6), rate=between(0.1, 20), day=between(1, 60))
def test_v10_moments_with_any_immigration(b, d, rate, day):
    """m' = (b - d) m + rate, v' = 2 (b - d) v + (b + d) m + rate (Evans et al. 2008)."""

    def change(_, y):
        return [(b - d) * y[0] + rate, 2 * (b - d) * y[1] + (b + d) * y[0] + rate]

    expected = rising(change, [30.0, 0.0], day).y[:, -1]
    problem = branching([30], [day], b, d, immigration=[(0, rate, 1)])
    found = moments(problem)
    np.testing.assert_allclose([found[0], found[1] ** 2], expected, rtol=1e-7)


@pytest.mark.slow
@few
@given(b0=between(0.1, 0.5), lost=between(0, 1), k=between(0.02, 0.5), d=between(0.05, 0.4))
def test_v11_any_recovery(b0, lost, k, d):
    """N0 e^-rho and N0 e^(-2 rho) int e^rho (b + d) by quadrature (Kendall 1948)."""
    lost *= b0
    rho = lambda t: (d - b0) * t + lost / k * -math.expm1(-k * t)  # noqa: E731
    events = lambda t: math.exp(rho(t)) * (b0 - lost * math.exp(-k * t) + d)  # noqa: E731
    params = {"birth": b0, "birth_lost": lost, "recovery": k, "death": d}
    problem = estipop.problem(300, 15.0, params, sync=0.02, record=Record(every=15.0))
    root = meanfield.simulate(problem)[""]
    last = lambda name: float(np.asarray(root[name].data)[0, 0, 0, -1])  # noqa: E731
    assert last("burden") == pytest.approx(300 * math.exp(-rho(15)), rel=1e-6)
    spread = 300 * math.exp(-2 * rho(15)) * quad(events, 0, 15, epsabs=1e-12)[0]
    assert last("burden_sd") ** 2 == pytest.approx(spread, rel=1e-5)


@pytest.mark.slow
@few
@given(ry=between(0.004, 0.02), rz=between(0.01, 0.03), u=between(1e-8, 1e-4), held=between(1, 500))
def test_v12_any_leukemia(ry, rz, u, held):
    """The linear system by its matrix exponential; the drug divides the first production by `held`."""
    d, a = np.array([0.003, 0.008, 0.05, 1.0]), np.array([1.6, 10.0, 100.0])
    on = np.array([a[0] / held, 10 / 750, 100.0])
    matrix = np.zeros((8, 8))
    for first, made in ((0, on), (4, a)):
        block = np.diag(-d) + np.diag(made, -1)
        matrix[first : first + 4, first : first + 4] = block
    matrix[0, 0] += ry * (1 - u)
    matrix[4, 4] += rz
    matrix[4, 0] += ry * u
    expected = expm(100 * matrix) @ [*hierarchy_cml.START, 0, 0, 0, 0]
    params = {
        "production_on_drug": np.append(on, 0.0), "renewal": ry, "resistant_renewal": rz,
        "mutation": u,
    }  # fmt: skip
    obtained = states(hierarchy_cml.problem(100.0, params=params), [100.0])[0][0]
    np.testing.assert_allclose(obtained, expected, rtol=1e-7)


@pytest.mark.slow
@few
@given(dose=between(0, 3), growth=between(0.004, 0.01), to=between(1e-8, 1e-3))
def test_v13_any_dose(dose, growth, to):
    """The day on which N passes 5e11, by LSODA in ln S and ln R."""

    def change(_, y):
        s, r = np.exp(y)
        speed = growth * math.log(2e12 / (s + r))
        return [speed * (1 - dose - to + 1e-6 * r / s), speed * (1 - 1e-6 + to * s / r)]

    def death(_, y):
        return np.exp(y).sum() - gompertz_switch.DEATH

    death.terminal = True
    found = rising(change, np.log([1e10, 2e5]), 2_000, events=death)
    expected = found.t_events[0][0] if found.t_events[0].size else math.inf
    params = {"growth": growth, "to_resistant": to}
    problem = gompertz_switch.problem((dose,), horizon=2_000.0, params=params)
    obtained = day_of(problem, gompertz_switch.is_fatal)
    assert obtained == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@few
@given(
    dose=between(5, 900), volume=between(50, 3_000), elimination=between(0.02, 0.2),
    absorption=between(0.5, 2), ic50=between(1e-3, 10),
)  # fmt: skip
def test_v16_mean_inhibition_by_any_drug(dose, volume, elimination, absorption, ic50):
    """The integral over a day at steady state, by adaptive quadrature of the closed form."""
    pk = {
        "dose_umol": dose, "volume": volume, "elimination": elimination, "absorption": absorption,
    }  # fmt: skip
    model = drugs.taken_orally(
        {"x": pk}, targets=("T",), kd={"T": {"x": ic50}}, max_death_rate=1.0, birth_rate=0.0,
        death_rate=0.0,
    )  # fmt: skip
    days = math.ceil(24 / (24 * elimination)) + 1
    level = drugs.course(model, drugs.daily(0, dose, days), days, drugs.GAUSS)[-1]
    with jax.enable_x64(True):
        effect = np.asarray(builders.over_doses(model, level).death_rate)
    expected = quad(
        lambda h: 1 / (1 + ic50 / drugs.steady_level(h, **pk)), 0, 24, epsabs=1e-12, limit=200
    )
    np.testing.assert_allclose(effect @ drugs.WEIGHTS, expected[0] / 24, rtol=1e-6)


# --- E cases ---------------------------------------------------------------------------------------

rates = st.tuples(between(0.05, 1), between(0.01, 0.8))


@few
@given(st.lists(st.tuples(between(0.5, 9), rates), min_size=3, max_size=3), st.integers(1, 500))
def test_e01_and_e05_any_schedule(segments, founders):
    """Kendall's law for any piecewise rates: extinct, mean and variance."""
    days = [h for h, _ in segments]
    birth, death = (np.array([pair[i] for _, pair in segments]) for i in (0, 1))
    law = laws.birth_death(days, birth.tolist(), death.tolist())
    problem = branching([founders], days, birth[:, None], death[:, None])
    expected = -math.expm1(founders * math.log(law.alpha))
    assert relapse_probability(problem) == pytest.approx(expected, rel=1e-8)
    found = moments(problem)
    assert found[0] == pytest.approx(law.mean(founders), rel=1e-9)
    assert found[1] ** 2 == pytest.approx(law.variance(founders), rel=1e-8)


@pytest.mark.slow
@few
@given(b=between(0.1, 1), turnover=between(0, 0.95), mutant=between(0.6, 0.99), u=between(-10, -7))
def test_e03_resistance_in_any_tumor(b, turnover, mutant, u):
    """1 - exp(-M u F), F by quadrature of the survival of a mutant (Iwasa et al. 2006)."""
    d, u, size = turnover * b, 10**u, 1e8
    factor = laws.resistance_factor(b, d, b * mutant, d)
    problem = dual_therapy.detected(b, d, u, size, b * mutant)
    assert dual_therapy.log_none(problem) == pytest.approx(size * u * factor, rel=1e-4)


@some
@given(st.data())
@pytest.mark.slow
def test_e07_any_graph(data):
    """Four classes, any mutations and switches, two segments, both conventions: SciPy's DOP853."""
    probability, rate = between(1e-4, 0.2), between(1e-3, 0.3)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=2, max_size=5, unique=True))
    moved = data.draw(st.lists(st.sampled_from(pairs), min_size=0, max_size=3, unique=True))
    # a rate of 0 for all other pairs: one network, compiled once
    mutation, conversion = np.zeros((4, 4)), np.zeros((4, 4))
    for pair in chosen:
        mutation[pair] = data.draw(probability)
    for pair in moved:
        conversion[pair] = data.draw(rate)
    birth, death = (
        np.array(data.draw(st.lists(between(0.05, 0.9), min_size=8, max_size=8))).reshape(2, 4)
        for _ in range(2)
    )
    days = data.draw(st.tuples(between(0.5, 6), between(0.5, 6)))
    founders = np.array(data.draw(st.tuples(*(st.integers(1, 4),) * 4)))
    for both in (False, True):
        process = laws.process(days, birth, death, mutation, conversion, both)
        problem = branching(
            founders.tolist(), days, birth, death,
            [(i, j, mutation[i, j]) for i, j in pairs],
            [(i, j, conversion[i, j]) for i, j in pairs], both=both,
        )  # fmt: skip
        expected = laws.probability_of_none(process, founders)
        assert no_cell(problem) == pytest.approx(expected, rel=1e-7)
        mean, covariance = laws.moments(process, founders)
        found = moments(problem)
        np.testing.assert_allclose(found[2], mean, rtol=1e-8)
        assert found[1] ** 2 == pytest.approx(covariance.sum(), rel=1e-7)


@pytest.mark.slow
@few
@given(
    size=st.integers(10**6, 10**10), fractions=st.integers(10, 30), gray=between(1, 4),
    birth=between(0, 0.3), death=between(0, 0.1),
)  # fmt: skip
def test_e06_any_fractionation(size, fractions, gray, birth, death):
    """The composed linear fractional maps of days and fractions."""
    root = extinction.simulate(populations.irradiated(size, fractions, gray, birth, death))[""]
    obtained = float(root["no_relapse_log"].data[0, 0, -1])
    expected = populations.log_control(size, fractions, gray, birth, death)
    assert obtained == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
@few
@given(gain=between(0, 0.2), loss=between(0.01, 0.3), days=between(1, 15))
def test_e09_any_copy_rates(gain, loss, days):
    """Mean copies by the matrix exponential, one daughter and both."""
    steps = laws.copy_steps(gain, loss, 8)
    moves = [(i, j, float(p)) for (i, j), p in np.ndenumerate(steps) if abs(i - j) == 1 and i]
    for both in (False, True):
        process = laws.process([days], np.ones(9), 0.0, steps, None, both)
        expected, _ = laws.moments(process, np.eye(9)[2])
        problem = branching([int(i == 2) for i in range(9)], [days], 1.0, 0.0, moves, both=both)
        np.testing.assert_allclose(moments(problem)[2], expected, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@few
@given(
    c0=between(1, 60), k=between(0.1, 1), hill=between(1, 4), ec50=between(0.5, 8),
    emax=between(0.05, 0.5),
)  # fmt: skip
def test_e10_any_decaying_drug(c0, k, hill, ec50, emax):
    """The closed integral of the Hill kill, for EC50 and for ten times it."""
    law = (c0, k, 24, emax, ec50, hill, 0.03)
    root = meanfield.simulate(drugs.bolus(*law))[""]
    found = np.asarray(root["class_count"].data)[0, 0, 0, -1]
    expected = [0.03 * 24 - drugs.hill_kill(*law[:4], e, hill) for e in (ec50, 10 * ec50)]
    np.testing.assert_allclose(np.log(found), expected, atol=2e-6)


@some
@given(ratio=between(0.1, 50), blocked=between(0, 0.99))
def test_e11_any_pump(ratio, blocked):
    """C_in/C_out = 1/(1 + kp (1 - I)/kout) (Shen et al. 2008)."""
    leak = builders.NEUTRAL["efflux_rate"][1]
    model = build(
        drugs=("substrate", "inhibitor"), pumps=("P-gp",),
        vmax={"P-gp": {"substrate": ratio * leak * 1e3}}, km={"P-gp": {"substrate": 1e3}},
        inhibition_ki={"P-gp": {"inhibitor": 1.0}}, baseline_pump=1.0,
    )  # fmt: skip
    with jax.enable_x64(True):
        outside = {"substrate": 1e-9, "inhibitor": blocked / (1 - blocked)}
        held = builders.inside(model, None, outside)["substrate"] / 1e-9
    assert held == pytest.approx(1 / (1 + ratio * (1 - blocked)), rel=1e-8)


def _is_done(count, extra):
    """A quarter of the capacity of 1e9 cells, for E12."""
    return count.sum() - 0.25e9


@few
@given(share=between(1e-4, 0.2), held=between(0, 0.24))
def test_e12_any_containment(share, held):
    """Held at any size below 1.2 n0 = .25 K."""
    n0 = 0.25 / 1.2
    problem = competition.contained(n0, share, held, 3_000.0)
    first = problem.founders[0].count / 1e9 / n0  # in whole cells
    expected = competition.containment_time(n0, first, held)
    assert day_of(problem, _is_done) == pytest.approx(expected, abs=1e-4)


@few
@given(
    n=between(1e6, 1e10), r=between(0.01, 0.1), growth=between(0.005, 0.05), alpha=between(0.3, 0.9)
)
def test_e15_any_recurrence(n, r, growth, alpha):
    """Z0 and Z1 at 100 days."""
    n, u = round(n), n**-alpha
    problem = branching([n, 0], [100.0], 1.0, [1 - u + r, 1 - growth], [(0, 1, u)])
    expected = populations.mean_cells(100.0, n, u, r, growth)
    np.testing.assert_allclose(moments(problem)[2], expected, rtol=1e-8)


@pytest.mark.slow
@few
@given(rate=between(0.05, 5), size=st.integers(1, 20), b=between(0.01, 0.3), d=between(0.4, 0.9))
def test_batches_of_immigrants_die_out_by_the_compound_law(rate, size, b, d):
    """P(none) = exp(-rate int (1 - alpha(t)^size) dt) (Campbell's theorem)."""
    one = lambda t: 1 - laws.birth_death([t], [b], [d]).alpha ** size  # noqa: E731
    expected = -rate * quad(one, 0, 12, epsabs=1e-13)[0]
    problem = branching([0], [12.0], b, d, immigration=[(0, rate, size)])
    assert math.log(no_cell(problem)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
@few
@given(st.tuples(*(between(0.0, 0.3),) * 4), between(1, 60))
def test_e08_any_switching(turns, days):
    """Two classes that turn into each other: extinct, means and variances."""
    on, off, birth, death = turns
    process = laws.process([days], [birth, 0.1], [death, 0.1], None, [[0, on], [off, 0]])
    problem = branching([5, 1], [days], [birth, 0.1], [death, 0.1], [], [(0, 1, on), (1, 0, off)])
    assert no_cell(problem) == pytest.approx(
        laws.probability_of_none(process, [5, 1]), rel=1e-7, abs=1e-13
    )
    expected, covariance = laws.moments(process, [5, 1])
    found = moments(problem)
    np.testing.assert_allclose(found[2], expected, rtol=1e-8)
    assert found[1] ** 2 == pytest.approx(covariance.sum(), rel=1e-7, abs=1e-9)


def test_a_wrong_convention_is_noticed():
    """Each daughter mutating with u doubles every rate to first order: E04 would be .483, not .695."""
    both = branching([1, 0], [8.0], 1.0, 0.5, [(0, 1, 0.01)], both=True, only=[1])
    assert abs(no_cell(both) - 0.6953720243) > 0.05
