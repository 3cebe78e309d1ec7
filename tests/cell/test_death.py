"""Death: natural and drug-induced."""

import pytest

from tests.builders import assert_close, build, rates

pytestmark = pytest.mark.both_precisions


def test_natural_and_drug_induced_deaths_add():
    """Death = d z + drug-induced, z the turnover of the cell; the drug does not scale with z."""
    model = build(
        drugs=("x",),
        targets=("T",),
        kd=1.0,
        max_death_rate=3.0,
        death_rate=0.4,
        alterations={"slow": {"natural_death_factor": 0.5, "max_level": 2}},
    )
    for level in (0, 1, 2):
        assert_close(rates(model, {"slow": level}).death_rate, 0.4 * 0.5**level)
        expected = 0.4 * 0.5**level + 1.5
        assert_close(rates(model, {"slow": level}, {"x": 1.0}).death_rate, expected)


def test_an_immortal_cell_never_dies():
    """Death rate 0 without drug is exactly 0."""
    assert rates(build(death_rate=0.0)).death_rate == 0.0
