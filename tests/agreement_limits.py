"""What a sampled engine may find, model by model, from exact laws alone: no normal limit anywhere.

Of `num` independent replicates, each limit is left by a right engine with probability `ALPHA` at most:

    no cell of a class, no cell     exact binomial quantiles
    mean                            Chernoff: mean <= (ln E e^{hX} + ln(2/ALPHA)/num)/h for each h > 0
    E prod_j s_j^X_j, 0 <= s <= 1   Bennett 1962, 10.1080/01621459.1962.10482149, with the variance
                                    E prod_j s_j^2X_j - (E prod_j s_j^X_j)^2
    sums of these over many models  Bernstein's inequality, exp(-t^2/(2 V + 2 t/3))

E e^{hX} is the generating function at s = e^h, so that every number comes from `tests.twins`. The third
kind judges variances and covariances: s_j = e^{-w_j/m} with m about the size of a tumor that lives.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from tests import twins
from tests.agreement import Batch, at_end
from tests.statistics import Rejected, assert_probability

FAMILY = 1e-4  # false-fail rate of everything that is asserted of one source tree
ASSERTIONS = 25_000  # at most
ALPHA = FAMILY / ASSERTIONS
STEPS = (0.5, 1.0, 1.6)  # h in units of its best value in the normal limit


class Sample(NamedTuple):
    """Living cells at the end."""

    classes: np.ndarray  # [model, replicate, class]
    sites: np.ndarray  # [model, replicate, site]

    def cells(self, group: "Group") -> np.ndarray:
        """Weighted cells of a group, [model, replicate]."""
        counts = self.classes if group.axis == "class" else self.sites
        return counts @ group.weights


def sample_of(random: Batch, trajectory) -> Sample:
    """Cells at the end; a class that no tumor has may be missing in a trajectory."""
    root = trajectory[""]
    burden, counts = at_end(trajectory, "burden"), at_end(trajectory, "class_count")
    assert np.all(burden >= 0), "a tumor was cut short"
    classes = np.zeros((*burden.shape, len(random.genotypes)), np.int64)
    for c, g in enumerate(root["class"].data.tolist()):
        if g in random.genotypes:
            classes[..., random.genotypes.index(g)] = counts[..., c]
    np.testing.assert_array_equal(classes.sum(-1), burden)
    return Sample(classes, at_end(trajectory, "site_burden"))


class Group(NamedTuple):
    """Cells that are counted together, by class or by site."""

    name: str
    axis: str
    weights: np.ndarray  # [class] or [site]

    def of_types(self, random: Batch) -> np.ndarray:
        """The weight of every type."""
        shape = (len(random.genotypes), len(random.shape.sites))
        column = self.weights[:, None] if self.axis == "class" else self.weights[None, :]
        inside = np.broadcast_to(column, shape).ravel()
        return np.pad(inside, (0, random.twin.num_types - inside.size))


class Limits(NamedTuple):
    """Of one batch, for a number of replicates."""

    groups: list[Group]  # of counted cells; the first is all of them
    none: np.ndarray  # [model, group] P(no cell)
    mean: np.ndarray  # [model, group]
    low: np.ndarray  # [model, group] least mean
    high: np.ndarray  # [model, group] greatest mean
    joint: list[Group]  # w of each joint generating function
    size: np.ndarray  # [model] m
    value: np.ndarray  # [model, joint] E prod_j s_j^X_j
    variance: np.ndarray  # [model, joint] of one replicate


class Pool(NamedTuple):
    """Deviations from what is expected, summed over models: kind -> (deviation, its variance)."""

    sums: dict[str, np.ndarray]

    def add(self, kind: str, deviation: float, variance: float) -> None:
        """One more statistic of independent replicates within 1 of their means."""
        self.sums[kind] = self.sums.get(kind, np.zeros(2)) + np.array([deviation, variance])

    def judge(self) -> None:
        """Raise `Rejected` if a sum is further off than Bernstein's inequality lets it be."""
        level = np.log(2 / ALPHA)
        for kind, (deviation, variance) in self.sums.items():
            most = level / 3 + np.sqrt((level / 3) ** 2 + 2 * variance * level)
            if not abs(deviation) <= most:
                raise Rejected(
                    f"{kind}: {deviation:.6g} off in all models together, limit {most:.6g}"
                )


def groups_of(random: Batch) -> tuple[list[Group], list[Group]]:
    """All cells, every class, every site; and weights of joint generating functions."""
    num_classes, sites = len(random.genotypes), random.shape.sites
    unit = np.eye(num_classes)
    groups = [Group("all cells", "class", np.ones(num_classes))]
    groups += [Group(f"class {g}", "class", unit[c]) for c, g in enumerate(random.genotypes)]
    mixed = np.linspace(0.2, 3.0, num_classes)
    joint = [
        Group("1", "class", np.ones(num_classes)),
        Group("5", "class", np.full(num_classes, 5.0)),
    ]
    joint += [Group("rising", "class", mixed), Group("falling", "class", mixed[::-1])]
    if len(sites) == 2:
        groups += [Group(f"site {name}", "site", np.eye(2)[s]) for s, name in enumerate(sites)]
        joint += [Group("by site", "site", np.array([0.3, 3.0]))]
    return groups, joint


def limits(random: Batch, num: int) -> Limits:
    """Exact limits for `num` replicates of every model of a batch."""
    twin = random.twin
    groups, joint = groups_of(random)
    weights = np.array([group.of_types(random) for group in groups])  # [group, type]
    mean, covariance = twins.moments(twin, 1e-10)
    deviation = np.sqrt(np.einsum("gt,mtu,gu->mg", weights, covariance, weights) + 1e-9)
    level = np.log(2 / ALPHA)
    steps = np.concatenate([STEPS, np.negative(STEPS)]) * np.sqrt(2 * level / num)
    h = np.clip(steps / deviation[:, :, None], -1.5, 1.5)  # [model, group, step]
    num_models, num_types = mean.shape
    tilted = np.exp(h[..., None] * weights[:, None]).reshape(num_models, -1, num_types)
    zero = np.broadcast_to(1 - weights, (num_models, *weights.shape))
    size = 1 + 2 * mean @ weights[0]
    slopes = np.array([group.of_types(random) for group in joint])
    s = np.exp(-slopes / size[:, None, None])
    found = twins.generating_function(twin, np.concatenate([tilted, zero, s, s**2], axis=1), 1e-10)
    ends = np.cumsum([len(groups) * len(steps), len(groups), len(joint)])
    moment, none, value, square = np.split(found, ends, axis=1)
    bound = (np.log(moment.reshape(h.shape)) + level / num) / h  # infinite where E e^{hX} is
    up = len(STEPS)
    return Limits(
        groups, none, mean @ weights.T, bound[..., up:].max(-1), bound[..., :up].min(-1),
        joint, size, value, np.maximum(square - value**2, 0.0),
    )  # fmt: skip


def bennett(variance: float, most: float, num: int) -> float:
    """Least t with exp(-num v/b^2 k(b t/v)) <= ALPHA/2, k(x) = (1 + x) ln(1 + x) - x.

    t is a deviation of the mean of `num`, v the variance and b how far one lies beyond its mean at most.
    """
    level, low, high = np.log(2 / ALPHA), 0.0, 1.0
    variance = max(variance, 1e-12)
    for _ in range(50):
        middle = (low + high) / 2
        x = most * middle / variance
        is_enough = num * variance / most**2 * (xlogy(1 + x, 1 + x) - x) >= level
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def judge(random: Batch, sample: Sample, known: Limits, pool: Pool) -> int:
    """Raise `Rejected` if a sample leaves a limit; adds to the pool, returns the number of assertions."""
    num = sample.classes.shape[1]
    done = 0
    for g, group in enumerate(known.groups):
        cells = sample.cells(group)
        for m, values in enumerate(cells):
            where = f"{random.shape.name}, model {m}, {group.name}"
            none = float(known.none[m, g])
            try:
                assert_probability(values == 0, none, detect=detectable(num), false_fail=ALPHA)
            except Rejected as wrong:
                raise Rejected(f"{where}, none: {wrong}") from wrong
            mean = values.mean()
            if not known.low[m, g] - 1e-9 <= mean <= known.high[m, g] + 1e-9:
                raise Rejected(
                    f"{where}: mean {mean:.6g} of {num}, law {known.mean[m, g]:.6g} "
                    f"[{known.low[m, g]:.6g}, {known.high[m, g]:.6g}]"
                )
            kind = group.name if group.name == "all cells" else group.axis
            off = float(np.sum(values == 0) - num * none)
            pool.add(f"no cell, {kind}", off, num * none * (1 - none))
            done += 2
    for k, group in enumerate(known.joint):
        cells = sample.cells(group)
        for m, values in enumerate(cells):
            law, variance = float(known.value[m, k]), float(known.variance[m, k])
            found = float(np.mean(np.exp(-values / known.size[m])))
            limit = bennett(variance, 1 - law if found > law else law, num)
            if not abs(found - law) <= limit:
                raise Rejected(
                    f"{random.shape.name}, model {m}, E e^-wX/m with w {group.name}: {found:.6g} of "
                    f"{num}, law {law:.6g} +- {limit:.4g}"
                )
            pool.add(f"joint, {group.name}", num * (found - law), num * variance)
            done += 1
    return done


def detectable(num: int) -> float:
    """The error of a probability that `num` replicates notice with probability .99."""
    return (6.2 + 2.4) / 2 / np.sqrt(num) + 4 / num
