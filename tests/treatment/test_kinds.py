"""The rules that studies can name: what they take, what they read, and nothing else."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.model import cast
from jaxevo.treatment import FROM_STUDY, POLICIES, SAFETY, Kind, Rule
from tests import builders
from tests.treatment.watched import ALWAYS, NotObservedError, Watched

pytestmark = pytest.mark.both_precisions

NAMES = {"lines": ("a", "b"), "drugs": ("x", "y"), "alterations": ("r1", "r2")}
EXAMPLES = {  # required parameters
    "intermittent": {"restart_cells": 1e9},
    "range_bounded": {"lower_cells": 1e8, "upper_cells": 1e9},
    "metronomic": {"thresholds_cells": (1e9,)},
    "personalized": {"against": {"r1": "b"}, "default": "a"},
    "cpm": {"sensitivity_per_day": ((0.5, 0.2),) * 4},
    "dpm22": {
        "growth_rate_per_day": 0.1,
        "sensitivity_per_day": ((0.5, 0.2),) * 4,
        "mutation_probability": ((0.0,) * 4,) * 4,
    },
}
KINDS = POLICIES | SAFETY


def made(name: str, lines: int = 2) -> Rule:
    """The rule with what it requires, as a study would make it."""
    kind, from_study = KINDS[name], NAMES | {"lines": NAMES["lines"][:lines]}
    taken = inspect.signature(kind.make).parameters
    return kind.make(
        **{k: v for k, v in from_study.items() if k in taken}, **EXAMPLES.get(name, {})
    )


def num_lines(kind: Kind) -> int:
    """As many lines as the rule takes, two at most."""
    fewest, most = kind.num_lines
    return max(fewest, min(most or 2, 2))


def known(lines: int) -> dict:
    """One visit with everything observed, by name."""
    dtype = builders.real()
    scalars = {"day": 0.0, "burden": 2e9, "last_scan": jnp.nan, "neutrophils": 0.3}
    vectors = {
        "share": lines * [0.0], "factor": [1.0, 1.0], "given_mg": [0.0, 0.0],
        "fractions": [0.5, 0.0], "composition": [1e9, 1e9, 0.0, 0.0],
    }  # fmt: skip
    return {
        **{name: jnp.asarray(value, dtype) for name, value in (scalars | vectors).items()},
        "visit": jnp.asarray(0),
        "is_scan": jnp.asarray(True),
    }


def ask(rule: Rule, given: dict, without: str = ""):
    """The rule's answer at one visit that offers only these observations."""
    genotypes = {"genotypes": np.arange(4)} if "genotypes" in given else {}
    given = {name: value for name, value in given.items() if name not in (without, "genotypes")}
    genotypes.pop(without, None)

    def decide(params, state, given):
        return rule.decide(params, state, Watched(**given, **genotypes))

    own = cast((rule.params, rule.start), builders.real())
    own = jax.tree.map(jnp.asarray, own)
    return jax.jit(decide)(*own, given), own[1]


def offered(kind: Kind) -> dict:
    """What is always known, and what the rule says that it needs."""
    everything = known(num_lines(kind)) | {"genotypes": None}
    return {name: everything[name] for name in (*ALWAYS, *kind.needs)}


@pytest.mark.parametrize("name", KINDS)
def test_a_rule_reads_what_it_says_and_nothing_else(name):
    """With its needs alone it answers; without any one of them it reads what is not there."""
    kind = KINDS[name]
    rule, given = made(name, num_lines(kind)), offered(kind)
    assert rule.name == name
    ask(rule, given)
    for need in kind.needs:
        with pytest.raises(NotObservedError, match=f"{need} is not observed"):
            ask(rule, given, without=need)


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_has_the_shapes_and_types_that_were_carried(name):
    """State in, state out, so that visits can follow each other; shares or factors >= 0."""
    kind = KINDS[name]
    given = offered(kind)
    (state, answer), start = ask(made(name, num_lines(kind)), given)
    like = given["factor" if name in SAFETY else "share"]
    about = lambda x: (x.shape, x.dtype)  # noqa: E731
    assert about(answer) == about(like)
    assert np.asarray(answer).min() >= 0
    assert jax.tree.map(about, state) == jax.tree.map(about, start)


@pytest.mark.parametrize("name", KINDS)
def test_numbers_never_change_the_code_of_a_rule(name):
    """`decide` is the same object for all studies, numbers are leaves: nothing compiles again."""
    one, other = made(name), made(name)
    assert one.decide is other.decide
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((one.params, one.start)))


@pytest.mark.parametrize("name", KINDS)
def test_parameters_are_keywords_with_types(name):
    """What a study file can hold: numbers, names, lists and tables of them."""
    for parameter in inspect.signature(KINDS[name].make).parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert re.fullmatch(
            r"(float|int|str|Table|tuple\[(str|float), \.\.\.\]( \| None)?|dict\[str, str\])",
            inspect.formatannotation(parameter.annotation).replace(TABLE, "Table"),
        )
        assert (parameter.name in NAMES) == (parameter.name in FROM_STUDY)


TABLE = "tuple[tuple[float, ...], ...]"


def test_a_rule_of_the_users_own_is_any_function():
    """Half of everything while neutrophils are low."""

    def careful(limit, state, seen):
        share = jnp.where(seen.neutrophils < limit, 0.5, 1.0)
        return state, jnp.broadcast_to(share, seen.share.shape).astype(seen.share.dtype)

    given = known(2)
    rule = Rule("careful", careful, params=np.asarray(0.4))
    assert ask(rule, given)[0][1].tolist() == [0.5, 0.5]
    assert ask(rule._replace(params=np.asarray(0.2)), given)[0][1].tolist() == [1, 1]


def test_every_rule_is_in_the_text_of_the_model():
    """MODEL.md, section Policies, has a row for each."""
    text = (Path(__file__).parents[2] / "MODEL.md").read_text(encoding="utf-8")
    section = text.split("\n## Policies\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*KINDS]
