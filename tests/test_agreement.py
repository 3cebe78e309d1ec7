"""Four engines, one truth: 200 random small models, every engine against the exact law of each.

The models are drawn by `tests.agreement`, their laws solved by `tests.twins`; neither reads a table or an
equation of jaxevo. Engines without dice must agree in every number to the error of two integrators.
"""

from functools import cache, partial

import numpy as np
import pytest

from jaxevo.engines import cells, clones, extinction, meanfield
from jaxevo.engines.base import Relapse
from tests import gillespie, twins
from tests.agreement import SEED, SHAPES, Batch, at_end, batch, by_place, points
from tests.agreement_limits import ASSERTIONS, Pool, Sample, judge, limits, sample_of
from tests.conftest import forget_programs
from tests.statistics import Rejected
from tests.twins import Twin

cached = cache(batch)


def batches(*quick: int):
    """Parametrize by all batches; those that are not quick have kernels of their own and are slow."""
    marks = [() if n in quick else (pytest.mark.slow,) for n in range(len(SHAPES))]
    cases = [pytest.param(n, id=SHAPES[n].name, marks=marks[n]) for n in range(len(SHAPES))]
    return pytest.mark.parametrize("number", cases)


@batches(7, 11, 12, 13)
def test_meanfield_has_the_moments_of_200_random_models(number):
    """Means and variances of every class, of every site and of all cells, to 1e-8."""
    random = cached(number)
    found = meanfield.simulate(random.problem)
    assert found[""]["closure"].data.tolist() == ["exact moments"]
    mean, covariance = twins.moments(random.twin)
    shape = (len(random.genotypes), len(random.shape.sites))
    inside = np.prod(shape)
    blocks = covariance[:, :inside, :inside].reshape(-1, *shape, *shape)
    expected = {
        "class_count": by_place(random, mean).sum(-1),
        "class_sd": np.einsum("mcsct->mc", blocks) ** 0.5,
        "site_burden": by_place(random, mean).sum(-2),
        "site_sd": np.einsum("mcsds->ms", blocks) ** 0.5,
        "burden": mean[:, :inside].sum(-1),
        "burden_sd": blocks.sum((1, 2, 3, 4)) ** 0.5,
    }
    if random.shape.max_alterations is not None:
        expected["leaked_cells"] = mean[:, -1]
    assert found[""]["class"].data.tolist() == random.genotypes
    for name, values in expected.items():
        np.testing.assert_allclose(
            at_end(found, name)[:, 0], values, rtol=1e-8, atol=1e-10, err_msg=name
        )


@batches(7, 11, 12, 13)
def test_extinction_has_the_generating_function_of_200_random_models(number):
    """P(any cell at the end), of the tumor and of one cell of each class at each site, to 1e-8.

    Where classes are limited, also if cells outside count as alive.
    """
    random = cached(number)
    found = extinction.simulate(random.problem)
    assert found[""]["closure"].data.tolist() == ["exact"]
    gone = points(random, 0.0, 0.0)
    gone[:, 1] = 0.0
    cell, tumor = twins.backward(random.twin, gone)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)  # noqa: E731
    close(at_end(found, "relapse_probability"), 1 - tumor[:, 0])
    close(at_end(found, "relapse_probability_at_most"), 1 - tumor[:, 1])
    close(at_end(found, "no_relapse_log"), np.log(tumor[:, 0]))
    by_class = found[""]["class_relapse_probability"].data[0]
    close(by_class, 1 - by_place(random, cell[:, 0]))


@batches(7)
def test_soft_detection_is_the_generating_function_inside_and_its_slope_the_mean(number):
    """1 - E e^{-Z/N}: at N = 20 cells the twin's; at N = 1e9 the expected cells of `meanfield` over N.

    1 - E e^{-Z/N} = E Z/N - E Z^2/(2 N^2) + ...; the second term is 1e-6 of the first, and known.
    """
    random = cached(number)
    few = extinction.simulate(random.problem._replace(relapse=Relapse("detection", 20.0)))
    seen = 1 - twins.generating_function(random.twin, points(random, np.exp(-1 / 20)))[:, 0]
    np.testing.assert_allclose(at_end(few, "relapse_probability"), seen, rtol=1e-8)
    cells = 1e9
    many = extinction.simulate(random.problem._replace(relapse=Relapse("detection", cells)))
    moments = meanfield.simulate(random.problem)
    mean, deviation = (at_end(moments, name)[:, 0] for name in ("burden", "burden_sd"))
    expected = mean / cells - (deviation**2 + mean**2) / (2 * cells**2)
    np.testing.assert_allclose(at_end(many, "relapse_probability"), expected, rtol=1e-9)


# --- engines with dice -----------------------------------------------------------------------------

NUM = 4_000  # replicates of every model
MODES = {"leap": 0, "mixed": 20, "events": 10**9}  # `exact_below` of the clones engine


def clones_sample(random: Batch, exact_below: int, num: int) -> Sample:
    """All models of a batch in one call: they are patients."""
    problem = random.problem._replace(replicates=num, exact_below=exact_below)
    return sample_of(random, clones.simulate(problem))


def cells_sample(random: Batch, num: int) -> Sample:
    """Model by model."""
    found = []
    for model in random.problem.models:
        problem = random.problem._replace(model=model, patients=(), replicates=num)
        found.append(sample_of(random, cells.simulate(problem)))
    return Sample(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def gillespie_sample(random: Batch, num: int) -> Sample:
    """The twin's own tables, event by event."""
    models = range(len(random.problem.models))
    types = np.stack([gillespie.simulate(random.twin, m, num, SEED) for m in models])
    place = by_place(random, types)
    return Sample(place.sum(-1), place.sum(-2))


SAMPLERS = {f"clones, {mode}": partial(clones_sample, exact_below=n) for mode, n in MODES.items()}
SAMPLERS |= {"cells": cells_sample, "twin": gillespie_sample}


def agree(name: str, numbers, patients: int, num: int) -> None:
    """Judge an engine on some batches, every model on its own and all together."""
    pool, done = Pool({}), 0
    for number in numbers:
        random = batch(number, patients)
        if name == "cells" and random.shape.max_alterations is not None:
            continue  # that engine follows all classes
        done += judge(random, SAMPLERS[name](random, num=num), limits(random, num), pool)
        forget_programs()
    pool.judge()
    assert done * len(SAMPLERS) + 1000 < ASSERTIONS


@pytest.mark.parametrize(
    "name", [*(pytest.param(x, marks=pytest.mark.slow) for x in ("clones, mixed", "cells")), "twin"]
)
def test_ten_random_models_follow_their_laws(name):
    """A graph of four classes on two sites, both daughters mutating, with surgery.

    P(none) and mean of every class and site, joint laws: with 2,000 replicates an error of .1 in one
    P(no cell) is noticed with probability .99, and one of .025 in the P(no tumor) of all ten.
    """
    agree(name, [13], 10, NUM // 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_200_random_models_follow_their_laws(name):
    """All of them: in the P(no tumor) of all models together an error of .004 is noticed."""
    agree(name, range(len(SHAPES)), 10, NUM)


# --- what the assertions reject --------------------------------------------------------------------


def alike(twin: Twin) -> Twin:
    """Both daughters are of one type: right in the mean, wrong in the variance."""
    marginal = (twin.daughters.sum(-1) + twin.daughters.sum(-2)) / 2
    return twin._replace(daughters=marginal[..., None] * np.eye(twin.num_types))


RIVALS = {
    "both daughters alike": alike,
    "immigrants one by one": lambda t: t._replace(
        immigration=t.immigration * t.batch, batch=np.ones_like(t.batch)
    ),
    "no second jump": lambda t: t._replace(
        kept=np.concatenate([t.kept[:, :1], np.ones_like(t.kept[:, 1:])], axis=1)
    ),
    "jump at the end of its segment": lambda t: t._replace(
        kept=np.concatenate([np.ones_like(t.kept[:, :1]), t.kept[:, :-1]], axis=1)
    ),
    "conversions to the wrong class": lambda t: t._replace(
        conversion=np.swapaxes(t.conversion, -1, -2)
    ),
    "births a tenth too few": lambda t: t._replace(birth=0.9 * t.birth),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_wrong_laws_are_rejected(rival):
    """Six models with 4,000 replicates are enough for errors of these kinds, some right in the mean."""
    random = batch(16, 6)
    wrong = random._replace(twin=RIVALS[rival](random.twin))
    pool = Pool({})
    with pytest.raises(Rejected):  # noqa: PT012
        judge(random, gillespie_sample(wrong, NUM), limits(random, NUM), pool)
        pool.judge()
