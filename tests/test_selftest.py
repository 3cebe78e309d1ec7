"""The selftest: its judgments, its laws, and what it says of an engine that is wrong.

That every case passes is shown in `tests/validation/test_cases.py`, which runs the same declarations.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxevo import selftest
from jaxevo.engines import meanfield
from jaxevo.selftest import Case, Result
from jaxevo.selftest.case import EXACT, chernoff, close, declare, hits, near
from jaxevo.selftest.problem import branching, kendall, total
from tests import laws
from tests.statistics import mean_limits


def test_the_engines_are_all_asked():
    """Each engine answers to at least four laws."""
    engines = [case.engine for case in selftest.CASES]
    assert set(engines) == {"cells", "clones", "meanfield", "extinction"}
    assert min(engines.count(engine) for engine in set(engines)) >= 4


def test_only_exact_laws_are_in_the_selftest():
    """Published tables are with the test suite."""
    assert {case.provenance for case in selftest.CASES} == {EXACT}


def test_the_selftest_needs_no_test_library():
    """It runs on an installed package: neither SciPy nor the test suite is imported."""
    for path in Path(selftest.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert "scipy" not in text
        assert "tests" not in [word for line in text.splitlines() if "import" in line
                               for word in line.replace(".", " ").split()]  # fmt: skip


def test_run_reports_every_finding_and_its_progress(monkeypatch):
    """One result per finding; progress before every case and once at the end."""
    cases: list[Case] = []

    @declare(cases, "T1", "a law", "nobody", EXACT, "cells", "clones")
    def _law(engine: str):
        yield near("one", 1, 1, 0.0)
        yield close("two", 2, 2.1 if engine == "clones" else 2, 1e-3)

    monkeypatch.setattr(selftest, "CASES", cases)
    seen = []
    results = selftest.run(lambda done, all_, what: seen.append((done, all_, what)))
    assert [(r.engine, r.quantity, r.is_passed) for r in results] == [
        ("cells", "one", True), ("cells", "two", True), ("clones", "one", True),
        ("clones", "two", False),
    ]  # fmt: skip
    assert all(isinstance(r, Result) and (r.case, r.source) == ("T1", "nobody") for r in results)
    assert [(done, all_) for done, all_, _ in seen] == [(0, 2), (1, 2), (2, 2)]
    assert seen[0][2] == "T1 a law (cells)"


def test_a_wrong_mean_fails_the_selftest(monkeypatch):
    """An engine that is off by one part in 1e6 does not pass."""
    right = meanfield.simulate

    def wrong(problem, **options):
        found = right(problem, **options)
        burden = found[""]["burden"]
        found[""]["burden"] = burden._replace(data=np.asarray(burden.data) * (1 + 1e-6))
        return found

    monkeypatch.setattr(meanfield, "simulate", wrong)
    case = next(c for c in selftest.CASES if (c.name, c.engine) == ("E01", "meanfield"))
    assert not all(result.is_passed for result in case.run() if result.quantity == "mean")


@given(p=st.floats(1e-3, 0.999), num=st.integers(100, 50_000))
def test_limits_of_a_share_hold_the_exact_ones_and_are_not_much_wider(p, num):
    """Chernoff's bound leaves at most 1e-6 outside; it is wider than the binomial by less than half
    its width and two hits.
    """
    low, high = hits("share", p, np.zeros(num, bool)).tolerance.split(",")[0].split(" to ")
    low, high = num * float(low), num * float(high)
    outside = stats.binom.cdf(math.ceil(low - 1e-3) - 1, num, p)
    outside += stats.binom.sf(math.floor(high + 1e-3), num, p)
    assert outside <= 1e-6
    exact = stats.binom.isf(5e-7, num, p) - stats.binom.ppf(5e-7, num, p)
    assert high - low <= 1.5 * exact + 4


def test_limits_of_a_variance_are_those_of_chi_square():
    """psi = -ln(1 - 2 theta)/2, for 4000 samples: within a tenth of the exact quantiles."""
    psi = lambda theta: -0.5 * np.log1p(-2 * theta)  # noqa: E731
    low, high = chernoff(psi, 4_000, math.sqrt(2), 0.4999)
    exact = stats.chi2.ppf([5e-7, 1 - 5e-7], 4_000) / 4_000
    assert low < exact[0]
    assert high > exact[1]
    assert (high - low) < 1.2 * (exact[1] - exact[0])


@given(
    st.lists(
        st.tuples(*(st.floats(0.1, 9), st.floats(0, 1), st.floats(0, 1))), min_size=1, max_size=4
    )
)
def test_the_law_of_one_cell_is_that_of_the_test_suite(segments):
    """Kendall 1948, typed twice."""
    mine, theirs = (
        kendall(*zip(*segments, strict=True)),
        laws.birth_death(*zip(*segments, strict=True)),
    )
    assert mine.alpha == pytest.approx(theirs.alpha, rel=1e-12)
    assert mine.beta == pytest.approx(theirs.beta, rel=1e-12)
    assert mine.survival == pytest.approx(1 - theirs.alpha, rel=1e-6, abs=1e-12)
    assert mine.deviation**2 == pytest.approx(theirs.variance(), rel=1e-9, abs=1e-12)


def test_the_mean_of_a_heavy_tailed_law_has_its_limits():
    """One founder for 100 days: the exact 1e-6 limits by FFT lie within Chernoff's."""
    law = kendall([100], [0.14], [0.13])
    exact = mean_limits(laws.birth_death([100], [0.14], [0.13]).law(), 20_000, detect=1.0)
    text = total("mean", law, 1, np.zeros(20_000)).tolerance.split(",")[0]
    low, high = (float(x) for x in text.split(" to "))
    assert low < exact[0] < exact[1] < high
    assert high - low < 1.3 * (exact[1] - exact[0])


def test_classes_of_interest_are_left_by_the_harvest():
    """`only` adds a day on which all other classes die and nothing else happens."""
    problem = branching([3, 0], [2.0], 1.0, 0.5, [(0, 1, 0.1)], only=[1])
    custom = problem.model.custom
    assert custom is not None
    params = custom.params
    assert problem.horizon == 3.0
    np.testing.assert_array_equal(params["birth"][-1], 0)
    np.testing.assert_array_equal(params["death"][-1], [60, 0])
