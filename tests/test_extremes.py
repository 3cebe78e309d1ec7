"""Models at the edge of what the laws allow, on every engine, against the exact law of each.

Three classes on two sites with steps from each to each, one law per extreme; all share founders (two
classes, two sites), intervals of half a day, surgery on day 0 and day 1, and seeding of three cells at a
time, so that one kernel per mutation convention serves all. Laws as in `tests.test_agreement`.
"""

from functools import cache

import numpy as np
import pytest

from jaxevo.engines import cells, clones, extinction, meanfield
from jaxevo.engines.base import Founder, Immigration, Jump
from tests import twins
from tests.agreement import Batch, assembled, at_end, by_place, points
from tests.agreement_graphs import changes, graph
from tests.agreement_limits import Pool, Sample, judge, limits, sample_of
from tests.agreement_shapes import Setting, Shape

UP, BACK = changes(3).index(1), changes(3).index(-1)  # columns of the steps +1 and -1
NUM = 1_000


def law(birth=0.8, death=0.4, moving=0.3, **steps) -> dict:
    """Tables of one law; a step is (kind, column) -> value for every class."""
    each = lambda value: np.broadcast_to(np.asarray(value, float), 3).copy()  # noqa: E731
    params = {
        "birth": each(birth), "death": each(death), "moving": np.full((3, 2), float(moving)),
        "ec50": np.ones((3, 1)), "inhibition": np.zeros((3, 1)), "kill": np.zeros((3, 1)),
        "induction": np.zeros((3, 1)),
        **{kind: np.zeros((3, 4)) for kind in ("mutation", "switching", "asymmetric", "symmetric")},
    }  # fmt: skip
    for kind, columns in steps.items():
        for column, value in columns.items():
            params[kind][:, column] = value
    return params


EXTREMES = {
    "every division mutates": law(mutation={UP: 1.0}),
    "every division mutates, forth and back": law(mutation={UP: 0.5, BACK: 0.5}),
    "every division differentiates both daughters": law(symmetric={UP: 1.0}),
    "every division differentiates one daughter": law(asymmetric={UP: 1.0}),
    "everything at once": law(
        mutation={UP: 0.3, BACK: 0.1}, asymmetric={UP: 0.2}, symmetric={UP: 0.2, BACK: 0.3},
        switching={BACK: 0.4},
    ),
    "nobody dies": law(death=0.0, mutation={UP: 0.2}),
    "nobody divides": law(birth=0.0, switching={UP: 0.5}),
    "as many births as deaths": law(birth=0.7, death=0.7, mutation={UP: 0.1}),
    "fifty births and deaths a day": law(birth=50.0, death=50.0, mutation={UP: 0.02}),
    "fast death": law(birth=[20.0, 0.5, 0.0], death=[60.0, 0.5, 0.1], asymmetric={UP: 0.4}),
    "switches faster than steps": law(switching={UP: 60.0, BACK: 30.0}, moving=20.0),
    "nothing happens": law(birth=0.0, death=0.0, moving=0.0),
    "only one class dies": law(birth=0.5, death=[0.0, 0.0, 3.0], switching={UP: 1.0}),
}  # fmt: skip


@cache
def extremes(convention: str) -> Batch:
    """All extremes under one mutation convention."""
    shape = Shape(
        f"extremes, {convention}", ("a", "b"), 1, (("kind", "mutation", 2),),
        is_both=convention == "both", is_custom=True, has_jump=True, has_immigration=True,
    )  # fmt: skip
    setting = Setting(
        edges=np.array([0.0, 0.5, 1.0, 1.5]),
        level=np.zeros((3, 1)),
        founders=(Founder(4, 0, 0), Founder(3, 1, 1)),
        jumps=(Jump(0.0, (0.8, 1.0)), Jump(1.0, (0.5, 0.9))),
        immigration=(Immigration(0.5, 0, 1, 3),),
    )
    reach = np.ones((2, 1))
    drawn = [graph(shape, setting, params, reach) for params in EXTREMES.values()]
    found = assembled(shape, setting, drawn, 7)
    return found._replace(problem=found.problem._replace(sync=0.5, replicates=NUM))


conventions = pytest.mark.parametrize(
    "convention", [pytest.param("one", marks=pytest.mark.slow), "both"]
)


@conventions
def test_meanfield_has_the_moments_of_extremes(convention):
    """Means of classes and sites and the variance of all cells, to 1e-8."""
    random = extremes(convention)
    found = meanfield.simulate(random.problem)
    mean, covariance = twins.moments(random.twin)
    place = by_place(random, mean)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)  # noqa: E731
    close(at_end(found, "class_count")[:, 0], place.sum(-1))
    close(at_end(found, "site_burden")[:, 0], place.sum(-2))
    inside = covariance[:, : place[0].size, : place[0].size]
    close(at_end(found, "burden_sd")[:, 0], inside.sum((1, 2)) ** 0.5)


@conventions
def test_extinction_has_the_generating_function_of_extremes(convention):
    """P(any cell at the end), of the tumor and of single cells, to 1e-8."""
    random = extremes(convention)
    found = extinction.simulate(random.problem)
    cell, tumor = twins.backward(random.twin, points(random, 0.0))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)  # noqa: E731
    close(at_end(found, "relapse_probability"), 1 - tumor[:, 0])
    by_class = found[""]["class_relapse_probability"].data[0]
    close(by_class, 1 - by_place(random, cell[:, 0]))


@pytest.mark.slow
@conventions
@pytest.mark.parametrize("exact_below", [0, 10, 10**9], ids=["leap", "mixed", "events"])
def test_clones_follow_the_laws_of_extremes(convention, exact_below):
    """P(none) and mean of every class and site, joint laws; 1,000 replicates notice .14."""
    random = extremes(convention)
    found = clones.simulate(random.problem._replace(exact_below=exact_below))
    judge(random, sample_of(random, found), limits(random, NUM), Pool({}))


@pytest.mark.slow
@conventions
def test_cells_follow_the_laws_of_extremes(convention):
    """The same, cell by cell, law by law."""
    random = extremes(convention)
    found = [
        sample_of(random, cells.simulate(random.problem._replace(model=model, patients=())))
        for model in random.problem.models
    ]
    joined = Sample(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    judge(random, joined, limits(random, NUM), Pool({}))
