"""Statistical assertions whose limits come from the exact law, and that refuse to be vacuous.

Each assertion takes samples (or counts) of independent replicates and the exact `Law`, and states

    false_fail   probability that a right kernel is rejected, 1e-6 unless told
    detect       the smallest error that a wrong kernel may have without being noticed

and raises `TooFewSamples` if an error of `detect` would be noticed with probability below .99. The
limits of means and variances are quantiles of the exact law of the sum over the replicates, so that
heavy tails, which make a normal limit reject right kernels, are in them. Each tail gets half of
`false_fail`; discrete laws stay below it. With N assertions a right code base fails with probability
at most N times `false_fail`: about 1e-4 for a hundred.
"""

import numpy as np
from scipy import stats

from tests.laws import Law

FALSE_FAIL = 1e-6
POWER = 0.99
MIN_EXPECTED = 50.0  # per cell of a chi-square test: keeps its tail right at 1e-6


class Rejected(AssertionError):
    """The samples do not follow the law."""


class TooFewSamples(ValueError):
    """The test could pass although the error it must detect is there."""


def normal_law(mean: float, variance: float) -> Law:
    """A normal law, tabulated: for quantities that are sums of very many independent parts."""
    x = np.linspace(-9, 9, 4001)
    p = np.exp(-(x**2) / 2)
    return Law(mean + np.sqrt(variance) * x, p / p.sum())


def sum_law(law: Law, num: int) -> Law:
    """The law of the sum of `num` independent samples, by FFT of the law, tails included.

    Values on no common lattice are split between two neighboring points of a fine one, which keeps
    the mean and adds less than 1e-4 of the variance.
    """
    values, p = np.asarray(law.values, float), law.probabilities
    deviation = np.sqrt(law.variance * num)
    far = np.flatnonzero(np.cumsum(p[::-1])[::-1] > 1e-13)[-1]
    width = 24 * deviation + 2 * (values[far] - values[0]) + 2
    is_lattice = bool(np.all(values == np.round(values))) and width < 2**22
    step = 1.0 if is_lattice else width / 2**20
    n = 2 ** int(np.ceil(np.log2(width / step)))
    origin = np.round(law.mean / step) * step
    position = (values - origin) / step
    low = np.floor(position + 1e-9)
    upper = np.clip(position - low, 0, 1)
    pmf = np.bincount(low.astype(np.int64) % n, p * (1 - upper), minlength=n)
    pmf += np.bincount((low.astype(np.int64) + 1) % n, p * upper, minlength=n)
    total = np.maximum(np.fft.irfft(np.fft.rfft(pmf) ** num, n), 0)
    center = int(np.round(num * (law.mean - origin) / step))
    window = np.arange(center - n // 2, center + n // 2)
    probabilities = total[window % n]
    return Law(num * origin + window * step, probabilities / probabilities.sum())


def _limits(total: Law, false_fail: float) -> tuple[float, float]:
    """The least and greatest value of a sum that are accepted."""
    half = false_fail / 2
    low = np.searchsorted(np.cumsum(total.probabilities), half, side="right")
    high = np.searchsorted(np.cumsum(total.probabilities[::-1]), half, side="right")
    return total.values[low], total.values[len(total.values) - 1 - high]


def _refuse_below(power: float, num: int, what: str) -> None:
    if power < POWER:
        raise TooFewSamples(
            f"{num} samples notice {what} with probability {power:.3f} only, {POWER} is needed: "
            "take more samples or state a larger error to detect"
        )


def _shift_power(total: Law, limits: tuple[float, float], up: np.ndarray, down: np.ndarray):
    """Least probability of leaving the limits when sums become `up` or `down`."""
    above = total.probabilities[up > limits[1] + 1e-9].sum()
    below = total.probabilities[down < limits[0] - 1e-9].sum()
    return float(min(above, below))


def mean_limits(law: Law, num: int, *, detect: float, false_fail=FALSE_FAIL):
    """Accepted means of `num` samples; refuses if a shift by `detect` could go unnoticed."""
    total = sum_law(law, num)
    limits = _limits(total, false_fail)
    shift = num * detect
    power = _shift_power(total, limits, total.values + shift, total.values - shift)
    _refuse_below(power, num, f"an error of {detect:.4g} of the mean {law.mean:.6g}")
    return limits[0] / num, limits[1] / num


def assert_mean(samples, law: Law, *, detect: float, false_fail=FALSE_FAIL) -> None:
    """The mean is the law's; `detect` is an absolute shift of the mean."""
    samples = np.asarray(samples).ravel()
    low, high = mean_limits(law, samples.size, detect=detect, false_fail=false_fail)
    mean = samples.mean(dtype=float)
    slack = 1e-9 * max(1.0, abs(law.mean))
    if not low - slack <= mean <= high + slack:
        raise Rejected(f"mean {mean:.8g} of {samples.size}, law {law.mean:.8g} [{low}, {high}]")


def variance_limits(law: Law, num: int, *, detect: float, false_fail=FALSE_FAIL):
    """Accepted mean squares about the law's mean; refuses if 1 + detect times it could pass.

    Also if 1/(1 + detect) of it could: an error is a change of scale, either way.
    """
    square = (law.values - law.mean) ** 2
    order = np.argsort(square, kind="stable")
    total = sum_law(Law(square[order], law.probabilities[order]), num)
    limits = _limits(total, false_fail)
    up, down = total.values * (1 + detect), total.values / (1 + detect)
    power = _shift_power(total, limits, up, down)
    _refuse_below(power, num, f"a factor of {1 + detect:.4g} on the variance {law.variance:.6g}")
    return limits[0] / num, limits[1] / num


def assert_variance(samples, law: Law, *, detect: float, false_fail=FALSE_FAIL) -> None:
    """The mean square about the law's mean is its variance; 1 + `detect` is a factor on it."""
    samples = np.asarray(samples).ravel()
    low, high = variance_limits(law, samples.size, detect=detect, false_fail=false_fail)
    square = np.mean((samples - law.mean) ** 2)
    if not low <= square <= high:
        raise Rejected(
            f"variance {square:.8g} of {samples.size}, law {law.variance:.8g} [{low}, {high}]"
        )


def pooled_cells(probabilities: np.ndarray, num: int) -> np.ndarray:
    """Index of the cell of each outcome; neighbors are pooled until each cell expects enough."""
    cells, cell, expected = np.zeros(len(probabilities), int), 0, 0.0
    for i, p in enumerate(probabilities):
        cells[i] = cell
        expected += num * p
        if expected >= MIN_EXPECTED and i < len(probabilities) - 1:
            cell, expected = cell + 1, 0.0
    if expected < MIN_EXPECTED and cell > 0:
        cells[cells == cell] = cell - 1
    return cells


def chi_square_limit(pooled: np.ndarray, num: int, *, detect: float, false_fail=FALSE_FAIL):
    """Largest accepted chi-square over pooled cells; `detect` is a total variation distance.

    A gamma law with the two exact moments of the statistic, k - 1 and
    2(k - 1) + (sum 1/p - k^2 - 2k + 2)/n. A law at distance D has noncentrality of at least 4 n D^2
    (Cauchy and Schwarz), whatever its shape.
    """
    k = len(pooled)
    if k < 2:
        raise TooFewSamples(f"{num} samples fill one cell only: take more samples")
    variance = 2 * (k - 1) + (np.sum(1 / pooled) - k**2 - 2 * k + 2) / num
    limit = stats.gamma.isf(false_fail, (k - 1) ** 2 / variance, scale=variance / (k - 1))
    power = stats.ncx2.sf(limit, k - 1, 4 * num * detect**2)
    _refuse_below(power, num, f"a law at a distance of {detect:.4g}")
    return limit


def assert_law(samples, law: Law, *, detect: float, false_fail=FALSE_FAIL) -> None:
    """The samples follow the whole law; `detect` is a total variation distance of pooled cells."""
    samples = np.asarray(samples).ravel()
    cells = pooled_cells(law.probabilities, samples.size)
    pooled = np.bincount(cells, law.probabilities)
    pooled = pooled / pooled.sum()
    limit = chi_square_limit(pooled, samples.size, detect=detect, false_fail=false_fail)
    index = np.clip(np.searchsorted(law.values, samples), 0, len(cells) - 1)
    seen = np.bincount(cells[index], minlength=len(pooled))
    expected = samples.size * pooled
    chi_square = np.sum((seen - expected) ** 2 / expected)
    if not chi_square <= limit:
        raise Rejected(
            f"chi-square {chi_square:.6g} over {len(pooled)} cells, limit {limit:.6g}: "
            f"seen {seen.tolist()}, expected {np.round(expected, 1).tolist()}"
        )


def hit_limits(probability: float, num: int, *, detect: float, false_fail=FALSE_FAIL):
    """Least and greatest accepted number of hits, exact binomial; `detect` is absolute.

    An error that would leave [0, 1] on one side need not be noticed there.
    """
    low = int(stats.binom.ppf(false_fail / 2, num, probability))
    high = int(stats.binom.isf(false_fail / 2, num, probability))
    powers = []
    if probability + detect <= 1:
        powers.append(stats.binom.sf(high, num, probability + detect))
    if probability - detect >= 0:
        powers.append(stats.binom.cdf(low - 1, num, probability - detect))
    what = f"an error of {detect:.4g} of the probability {probability:.6g}"
    _refuse_below(min(powers, default=0.0), num, what)
    return low, high


def assert_probability(hits, probability: float, *, detect: float, false_fail=FALSE_FAIL) -> None:
    """Claims (booleans, one per replicate) hold with this probability; `detect` is absolute."""
    hits = np.asarray(hits, bool).ravel()
    low, high = hit_limits(probability, hits.size, detect=detect, false_fail=false_fail)
    if not low <= hits.sum() <= high:
        raise Rejected(
            f"{hits.sum()} of {hits.size}, probability {probability:.8g} [{low}, {high}]"
        )


def assert_rare_count(
    count: int, num: int, expected: float, *, detect: float, false_fail=FALSE_FAIL
) -> None:
    """Rare events in `num` samples are Poisson; `detect` is a number of events too many."""
    low = int(stats.poisson.ppf(false_fail / 2, expected))
    high = int(stats.poisson.isf(false_fail / 2, expected))
    power = stats.poisson.sf(high, expected + detect)
    what = f"{detect:.4g} events beyond the expected {expected:.4g}"
    _refuse_below(power, num, what)
    if not low <= count <= high:
        raise Rejected(f"{count} events, expected {expected:.6g} [{low}, {high}]")
