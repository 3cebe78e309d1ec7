"""Two years of doses: gradient as differences, and memory of reverse mode that hardly grows with time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.drug.schedule import Dose
from jaxevo.engines import objective
from jaxevo.engines.base import Arm, Record
from tests.builders import build
from tests.engines.test_objective import study

FORTNIGHT = 14.0


def fortnights(number: int):
    """A tablet in every fortnight against one target, resistant mutants, and P(no relapse) of the doses."""
    model = build(
        drugs=("a",), targets=("A",), kd={"A": {"a": 0.2}}, max_death_rate={"A": 0.1},
        birth_rate=0.14, death_rate=0.12, is_prescribed=0.0, clearance=10.0, central_volume=60.0,
        absorption_rate=12.0, equilibration_rate=2.0,
        alterations={
            "p": {"gain_probability": 1e-6, "first_gain_probability": 1e-6, "kd_fold": {"a": 20.0}}
        },
    )  # fmt: skip
    doses = tuple(Dose(0, FORTNIGHT * k, 90.0 + k, is_oral=True) for k in range(number))
    end = FORTNIGHT * number
    record = Record(every=end, concentration_every=end)
    problem = study(model, Arm("oral", doses), horizon=end, record=record, sync=FORTNIGHT)
    return objective.objective(problem, probes=(1.0,))


def compiled(made):
    at = jnp.asarray(made.start)
    return jax.jit(jax.value_and_grad(made.value)).lower(at).compile(), at


def test_gradient_over_two_years_and_its_memory():
    """Fourth-order differences of some doses; a fortnight more takes less than 6 kB of memory.

    What a fortnight has in between (the stations of every class) is made again on the way back: stored, it
    would be 10 kB.
    """
    with jax.enable_x64(True):
        short, long = fortnights(13), fortnights(52)
        few, _ = compiled(short)
        many, at = compiled(long)
        value = lambda x: many(x)[0]  # noqa: E731
        slope = np.asarray(many(at)[1])
        for k in (0, 25, 50):
            step = np.zeros(len(at))
            step[k] = 1e-3 * at[k]
            one, two = (float(value(at + m * step) - value(at - m * step)) for m in (1, 2))
            difference = (8 * one - two) / (12 * step[k])
            assert slope[k] == pytest.approx(difference, rel=1e-5)
    used = [getattr(c.memory_analysis(), "temp_size_in_bytes") for c in (few, many)]  # noqa: B009
    assert used[1] - used[0] < 6_000 * (52 - 13)
    assert used[1] < 2**19
