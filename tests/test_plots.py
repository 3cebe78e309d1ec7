"""Pictures show the numbers of the trajectory: what is drawn is compared, not how it looks."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from jaxevo.engines.base import Variable
from jaxevo.plots import data, draw_all, figures
from tests.trajectories import make_expectation, make_relapse, make_trajectory

LONG = "first-line erlotinib 150 mg daily, elacridar 250 mg twice daily $and$ a rest of two weeks"
CASES = {
    "plain": {},
    "one replicate": {"replicates": 1, "days": 20},
    "crowded": {
        "arms": ("untreated", LONG, "_hidden", "$x^2"),
        "sites": ("lung", "brain", "bone marrow of the left and the right femur"),
        "drugs": ("erlotinib", "elacridar", "a drug with quite a long name, as they have"),
        "max_level": {"T790M": 1, "MET_amplification": 3, "persister": 1, "MDR1_overexpression": 2},
        "mutation": 3e-4,
        "max_classes": 12,
        "max_clones": 40,
    },
    "all extinct": {"drug_death": 4.0, "protection": 0.0, "arms": ("high",), "sites": ("tumor",)},
    "no drugs": {"drugs": (), "days": 10},
    "no clones": {"has_clones": False, "days": 10},
    "no alterations": {"max_level": {}, "days": 10},
    "stopped": {"stop_at": 30_000, "drug_death": 1.8},
    "out of room": {"room": 40_000},
    "nine arms": {"arms": tuple(f"arm {i}" for i in range(9)), "days": 10, "replicates": 1},
}
TRAJECTORIES = {name: make_trajectory(**options) for name, options in CASES.items()}


FORMS = {
    "many replicates": make_trajectory(replicates=figures.MAX_RUNS + 5, days=15, drug_death=3.0),
    "expectation": make_expectation(),
    "expectations": make_expectation(patients=3, days=15, has_clones=False),
    "relapse": make_relapse(),
    "small risk": make_relapse(risk=1e-9, patients=4, arms=("a", LONG, "c")),
}
TRAJECTORIES |= FORMS
PICTURES = {
    "many replicates": ["burden.png", "composition.png", "muller.png", "concentration.png"],
    "expectation": ["burden.png", "composition.png", "concentration.png"],
    "expectations": ["burden.png", "composition.png", "concentration.png"],
    "relapse": ["relapse.png", "concentration.png"],
    "small risk": ["relapse.png", "concentration.png"],
}


def drawn(case: str, figure) -> tuple:
    with figures.own_style():
        return TRAJECTORIES[case], figure(TRAJECTORIES[case], "a title")


@pytest.mark.parametrize("case", ["all extinct", "no drugs", "no clones", "out of room"])
def test_every_picture_with_data_is_written(case, tmp_path):
    """A PNG of at least 1200 x 800 for all that has data, nothing else."""
    trajectory = TRAJECTORIES[case]
    expected = ["burden.png", "composition.png", "muller.png", "concentration.png"]
    if case == "no clones":
        expected.remove("muller.png")
    if case == "no drugs":
        expected.remove("concentration.png")
    paths = draw_all(trajectory, tmp_path / "new" / "pictures", title=LONG)
    assert [path.name for path in paths] == expected
    for path in paths:
        pixels = imread(path)
        assert pixels.shape[0] >= 800
        assert pixels.shape[1] == 1200
        assert pixels[..., :3].std() > 0.02  # not an empty sheet


@pytest.mark.parametrize("case", ["crowded", "nine arms", "stopped", "no alterations"])
@pytest.mark.parametrize("picture", ["burden", "composition", "muller", "concentration"])
def test_no_text_lies_on_another(case, picture):
    """Titles, axis labels, legends and names of clones keep clear of each other and of the border."""
    assert_clear(drawn(case, getattr(figures, picture))[1])


def assert_clear(figure) -> None:
    """No two texts overlap, and none leaves the figure."""
    figure.draw_without_rendering()
    texts = [figure._suptitle, figure._supylabel, *figure.legends]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    boxes = [text.get_window_extent() for text in texts if text is not None]
    boxes = [box for box in boxes if box.width * box.height > 0]
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert box.x0 > -1
        assert box.y0 > -1
        assert box.x1 < width + 1
        assert box.y1 < height + 1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_no_window_and_no_setting_is_left_behind(tmp_path):
    """Drawing neither opens a pyplot figure nor changes a setting, and does not follow the user's."""
    draw_all(TRAJECTORIES["plain"], tmp_path / "a")
    with mpl.rc_context({"lines.linewidth": 17.0, "axes.facecolor": "red", "text.usetex": True}):
        before = dict(mpl.rcParams)
        draw_all(TRAJECTORIES["plain"], tmp_path / "b")
        assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_pyplot_is_not_even_imported():
    """`import jaxevo.plots` leaves pyplot, and with it the choice of a window system, alone."""
    script = "import sys, jaxevo.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


# --- what the engines other than `cells` write ---


@pytest.mark.parametrize("case", FORMS)
def test_every_engine_has_its_pictures(case, tmp_path):
    """Those that its trajectory has data for; no text on another."""
    paths = draw_all(TRAJECTORIES[case], tmp_path, title=LONG)
    assert [path.name for path in paths] == PICTURES[case]
    for path in paths[:2]:
        assert imread(path)[..., :3].std() > 0.02


@pytest.mark.parametrize("case", ["relapse", "small risk"])
def test_no_text_of_the_relapse_picture_lies_on_another(case):
    """As for the other pictures."""
    assert_clear(drawn(case, figures.relapse)[1])


def test_many_replicates_are_a_band_of_their_ranks():
    """Median and the 5, 25, 75 and 95 % ranks of all replicates; extinct ones are 0, at the floor."""
    trajectory, figure = drawn("many replicates", figures.burden)
    root = trajectory[""]
    burden = root["burden"].data.reshape(2, -1, len(root["time"].data))
    assert (burden[1] == 0).any()
    for arm in range(2):
        found = data.spread(root, arm)
        expected = np.quantile(burden[arm], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        lines = (found.outer[0], found.inner[0], found.middle, found.inner[1], found.outer[1])
        np.testing.assert_allclose(lines, expected)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 2.2]
    assert len(thick) == 2
    np.testing.assert_array_equal(
        thick[1].get_ydata(), np.maximum(data.spread(root, 1).middle, figures.FLOOR)
    )
    assert "5 to 95 %" in figure.get_suptitle()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    extinct = int((root["status"].data[1] == 1).sum())
    assert any(f"({extinct} of {figures.MAX_RUNS + 5} extinct)" in text for text in texts)


def test_sizes_that_are_not_known_are_left_out_of_a_band():
    """-1 is no size: ranks are those of the tumors that are still followed; where none is, no line."""
    burden = np.array([[10, 20, -1], [30, -1, -1]]).reshape(1, 1, 2, 3)
    values = {"burden": burden, "time": np.arange(3.0)}
    root = {name: Variable((), value, "1", name) for name, value in values.items()}
    found = data.spread(root, 0)
    assert found.days.tolist() == [0, 1]
    assert found.middle.tolist() == [20, 20]


def test_an_expectation_has_two_standard_deviations():
    """Mean -+ 2 sd, at least 0; of several patients the ranks of their means."""
    root = TRAJECTORIES["expectation"][""]
    mean, sd = (root[name].data[0, 0, 0] for name in ("burden", "burden_sd"))
    found = data.spread(root, 0)
    np.testing.assert_array_equal(found.middle, mean)
    np.testing.assert_array_equal(found.outer, (np.maximum(mean - 2 * sd, 0), mean + 2 * sd))
    many = TRAJECTORIES["expectations"][""]
    np.testing.assert_allclose(
        data.spread(many, 1).middle, np.median(many["burden"].data[1, :, 0], axis=0)
    )
    assert "3 patients" in drawn("expectations", figures.burden)[1].get_suptitle()
    assert "exact moments" in drawn("expectation", figures.burden)[1].get_suptitle()


@pytest.mark.parametrize("case", ["relapse", "small risk"])
def test_the_relapse_picture_shows_probabilities(case):
    """The mean over patients against day, where it is above 0; a point per class, site and arm."""
    trajectory, figure = drawn(case, figures.relapse)
    root = trajectory[""]
    course, classes = figure.axes
    for arm, line in enumerate(course.lines):
        mean = root["relapse_probability"].data[arm].mean(axis=0)
        expected = mean if case == "relapse" else np.where(mean > 0, mean, np.nan)
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert course.get_yscale() == ("linear" if case == "relapse" else "log")
    chance = root["class_relapse_probability"].data.mean(axis=1).reshape(len(course.lines), -1)
    assert len(classes.lines) == chance[:, : figures.MOST_CLASSES].size
    shown = sorted(line.get_xdata()[0] for line in classes.lines)
    np.testing.assert_allclose(shown, np.sort(chance.ravel())[-len(shown) :])


# --- burden ---


def test_lines_of_the_burden_picture_are_the_burden():
    """Growth first, then arm by arm and replicate by replicate: the recorded days and cells."""
    trajectory, figure = drawn("plain", figures.burden)
    root, lines = trajectory[""], figure.axes[0].lines
    for replicate, line in enumerate(lines[:3]):
        is_there = root["growth_burden"].data[replicate] > 0
        np.testing.assert_array_equal(
            line.get_xdata(), root["growth_day"].data[replicate, is_there]
        )
        np.testing.assert_array_equal(
            line.get_ydata(), root["growth_burden"].data[replicate, is_there]
        )
    courses = [line for line in lines[3:] if len(line.get_xdata()) > 2]  # without markers
    burden = root["burden"].data.reshape(6, -1)
    status = root["status"].data.ravel()
    assert (status == 0).sum() >= 3
    for run in np.flatnonzero(status == 0):
        np.testing.assert_array_equal(courses[run].get_xdata(), root["time"].data)
        np.testing.assert_array_equal(courses[run].get_ydata(), burden[run])


def test_an_extinct_replicate_ends_on_the_floor_at_its_day():
    """The last point is (end_day, 0), drawn with a marker where the axis ends."""
    trajectory, figure = drawn("all extinct", figures.burden)
    root, axes = trajectory[""], figure.axes[0]
    for run, end in enumerate(root["end_day"].data.ravel()):
        course = data.course(root, 0, run)
        assert (course.status, course.days[-1], course.cells[-1]) == (1, end, 0)
        assert (course.cells[:-1] > 0).all()
        assert (np.diff(course.days) > 0).all()
    markers = [line for line in axes.lines if line.get_marker() == "X"]
    assert [line.get_xdata()[0] for line in markers] == root["end_day"].data.ravel().tolist()
    assert {line.get_ydata()[0] for line in markers} == {figures.FLOOR} == {axes.get_ylim()[0]}
    assert "(3 of 3 extinct)" in figure.legends[0].get_texts()[1].get_text()


@pytest.mark.parametrize(
    ("case", "status", "marker"), [("stopped", 2, "^"), ("out of room", 3, "s")]
)
def test_a_replicate_that_is_not_followed_to_the_end_says_so(case, status, marker):
    """Its line ends at its day with a marker of its own, and the legend names the reason."""
    trajectory, figure = drawn(case, figures.burden)
    root = trajectory[""]
    ended = np.argwhere(root["status"].data[:, 0] == status).tolist()
    assert len(ended) > 0
    for arm, run in ended:
        course = data.course(root, arm, run)
        assert course.days[-1] == root["end_day"].data[arm, 0, run]
        assert (course.cells > 0).all()
    assert sum(line.get_marker() == marker for line in figure.axes[0].lines) == len(ended)
    texts = " ".join(text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts())
    assert figures.ENDS[status][1] in texts


def test_an_end_between_two_records_is_kept():
    """A replicate that stops on day 2.5 ends there, with the size that is repeated afterwards."""
    root = dict(make_trajectory(days=4, replicates=1, arms=("a",), drugs=())[""])
    axes = ("arm", "patient", "replicate")
    sizes = np.array([100, 200, 400, 650, 650]).reshape(1, 1, 1, 5)
    root["burden"] = Variable((*axes, "time"), sizes, "cells", "living cells")
    root["status"] = Variable(axes, np.full((1, 1, 1), 2, np.int8), "1", "status")
    root["end_day"] = Variable(axes, np.full((1, 1, 1), 2.5), "d", "end")
    course = data.course(root, 0, 0)
    assert course.days.tolist() == [0, 1, 2, 2.5]
    assert course.cells.tolist() == [100, 200, 400, 650]


# --- composition ---


@pytest.mark.parametrize("case", [*CASES, "many replicates", "expectation", "expectations"])
def test_shares_add_up_to_one_wherever_cells_live(case):
    """All shares are in 0..1 and sum to 1; they are missing exactly where no replicate lives."""
    root = TRAJECTORIES[case][""]
    shares = data.class_shares(root)
    is_living = (root["burden"].data > 0).any(axis=(1, 2))
    np.testing.assert_array_equal(np.isfinite(shares).all(axis=-1), is_living)
    groups = data.group_classes(root)
    grouped = data.group_shares(shares, groups)[is_living]
    assert (grouped >= 0).all()
    np.testing.assert_allclose(grouped.sum(axis=-1), 1, rtol=1e-12)
    assert len(groups.labels) <= data.MAX_NAMED + 1
    assert (groups.labels[0], groups.labels[-1]) == ("unaltered", "other")
    assert len(set(figures._group_colors(groups))) == len(groups.labels)


def test_the_share_is_the_mean_over_replicates_that_live():
    """Two tumors, 30 of 100 and 1 of 2 cells altered: mean share 0.4; after one died, that of the other."""
    root = {
        "class_count": np.array([[70, 30], [1, 1], [50, 50], [0, 0]]).reshape(1, 1, 2, 2, 2),
        "other_classes_count": np.zeros((1, 1, 2, 2), int),
    }
    root["class_count"] = root["class_count"].transpose(0, 1, 3, 2, 4)  # to replicate, time
    root = {name: Variable((), values, "cells", name) for name, values in root.items()}
    expected = [[0.6, 0.4, 0.0], [0.5, 0.5, 0.0]]
    np.testing.assert_allclose(data.class_shares(root)[0], expected, rtol=1e-15)


def test_levels_of_one_alteration_are_one_group():
    """`MET x1` and `MET x2` are the same mechanism; a share moves to `other` beyond the named ones."""
    trajectory = TRAJECTORIES["crowded"]
    root = trajectory[""]
    groups = data.group_classes(root)
    altered = root["class_genotype"].data > 0
    for i, row in enumerate(altered):
        for j, other in enumerate(altered):
            if groups.member[i] < len(groups.labels) - 1:
                assert (groups.member[i] == groups.member[j]) == np.array_equal(row, other)
    few = data.group_classes(root, max_named=2)
    assert few.labels[0] == "unaltered"
    assert len(few.labels) == 3
    shares = data.class_shares(root)
    others = data.group_shares(shares, few)[..., -1]
    kept = shares[..., :-1][..., few.member < 2].sum(axis=-1)
    np.testing.assert_allclose(others, 1 - kept, atol=1e-12)


def test_stacked_bands_reach_from_zero_to_one():
    """The drawn polygons of a panel begin at 0, end at 1, and each starts where the last one ends."""
    _, figure = drawn("plain", figures.composition)
    for axes in figure.axes[1::2]:
        heights = [np.array(band.get_paths()[0].vertices)[:, 1] for band in axes.collections]
        assert heights[0].min() == 0
        assert heights[-1].max() == pytest.approx(1, abs=1e-12)


# --- Muller plot ---


@pytest.mark.parametrize("case", ["plain", "crowded", "all extinct", "stopped", "out of room"])
def test_muller_bands_cover_zero_to_one_once(case):
    """Cells of each clone alone tile [0, 1]; children lie inside their parent, beside each other."""
    trajectory = TRAJECTORIES[case]
    root = trajectory[""]
    for arm in range(len(root["arm"].data)):
        clones = data.clones_of(trajectory, arm, data.longest_alive(root, arm))
        bands = data.muller_bands(clones.share, clones.parent)
        is_known = np.isfinite(clones.share).all(axis=1)
        assert is_known.any()
        assert len(bands) == len(clones.identity) + 1
        pieces = []
        for band in bands:
            pieces += [(band.lower, band.inner_lower), (band.inner_upper, band.upper)]
        for time in np.flatnonzero(is_known):
            lower, upper = np.array([(low[time], high[time]) for low, high in pieces]).T
            assert (lower <= upper + 1e-12).all()
            starts, ends = np.sort([*lower, 1.0]), np.sort([0.0, *upper])
            np.testing.assert_allclose(starts, ends, atol=1e-12)  # one ends where another starts
        placed = {band.clone: band for band in bands}
        for clone, parent in enumerate(clones.parent.tolist()):
            band = placed[clone]
            own = (band.inner_lower - band.lower) + (band.upper - band.inner_upper)
            np.testing.assert_allclose(own, clones.share[:, clone], atol=1e-12)
            if parent >= 0:
                outer = placed[parent]
                assert (band.lower >= outer.inner_lower - 1e-12)[is_known].all()
                assert (band.upper <= outer.inner_upper + 1e-12)[is_known].all()


def test_a_clone_lies_in_its_nearest_recorded_ancestor():
    """1 begot 2 (not recorded), which begot 3: 3 lies in 1. Another replicate's clones do not count."""
    trajectory = dict(make_trajectory(days=4, replicates=2, arms=("a",)))
    rows = {
        "arm_index": [-1, -1, -1, 0, 0],
        "replicate_index": [0, 0, 0, 0, 1],
        "id": [0, 1, 2, 3, 3],
        "parent": [-1, 0, 1, 2, 0],
        "genotype": [0, 1, 2, 3, 9],
    }
    lineage = {k: Variable(("clone_event",), np.array(v), "1", k) for k, v in rows.items()}
    root = dict(trajectory[""])
    identity = np.array([[[3, 1, -1], [3, 0, -1]]])
    root["clone_id"] = Variable(("arm", "replicate", "clone"), identity, "1", "id")
    count = np.zeros((1, 2, 3, 3), int)
    root["clone_count"] = Variable(("arm", "replicate", "clone_time", "clone"), count, "cells", "n")
    clones = data.clones_of({"": root, "lineage": lineage}, 0, 0)
    assert (clones.parent.tolist(), clones.genotype.tolist()) == ([1, -1], [3, 1])
    rows["parent"][0] = 2  # descent in a circle must end
    lineage["parent"] = Variable(("clone_event",), np.array(rows["parent"]), "1", "parent")
    data.clones_of({"": root, "lineage": lineage}, 0, 0)
    alone = data.clones_of({"": root}, 0, 0)
    assert alone.parent.tolist() == [-1, -1]


def test_without_a_lineage_clones_lie_side_by_side(tmp_path):
    """The Muller plot needs no lineage: shares are the same, nothing is nested."""
    whole = TRAJECTORIES["plain"]
    with figures.own_style():
        figure = figures.muller({"": whole[""]})
    assert "inside" not in figure.get_suptitle()
    assert "inside" in drawn("plain", figures.muller)[1].get_suptitle()
    assert figure.get_supylabel() == "share of living cells"


def test_the_replicate_that_was_followed_longest_is_shown():
    """Of those with the latest living cell the largest then; a stopped one only repeats."""
    sizes = np.array([[9, 0, 0], [9, 9, -1], [9, 12, 0], [9, 9, 9]]).reshape(1, 1, 4, 3)
    values = {
        "burden": sizes,
        "time": np.arange(3.0),
        "end_day": np.array([[[1.0, 1.0, 2.0, 0.5]]]),
    }
    root = {name: Variable((), value, "1", name) for name, value in values.items()}
    assert data.longest_alive(root, 0) == 2


def test_a_label_is_placed_where_its_clone_has_room():
    """A lens that is widest on day 5 gets its text there, between its edges all along the text."""
    days = np.arange(11.0)
    half = 0.2 - 0.04 * np.abs(days - 5)
    day, height, room = data.label_place(days, 0.5 - half, 0.5 + half, width=2.0)
    assert (day, height) == (5.0, 0.5)
    assert room == pytest.approx(2 * 0.16)
    nothing = np.full(11, np.nan)
    assert data.label_place(days, nothing, nothing, width=2.0)[2] == 0


# --- concentration ---


def test_lines_of_the_concentration_picture_are_the_concentrations():
    """Blood and every site of each treated arm, in both panels; the zoom ends after the first days."""
    trajectory, figure = drawn("plain", figures.concentration)
    root = trajectory[""]
    expected = [root["blood_concentration"].data[1, :, 0]]
    expected += [root["concentration"].data[1, :, site, 0] for site in range(2)]
    for axes in figure.axes:
        assert len(axes.lines) == len(expected)
        for line, values in zip(axes.lines, expected, strict=True):
            is_there = values > 1e-9
            np.testing.assert_array_equal(line.get_ydata()[is_there], values[is_there])
    assert figure.axes[1].get_xlim() == (0.0, figures.ZOOM_DAYS)
    assert figure.axes[0].get_xlim() == (0.0, 60.0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "erlotinib daily", "in blood", "at lung", "at brain"
    ]  # fmt: skip


def test_arms_that_decide_are_left_out_of_the_concentration_picture(tmp_path):
    """What they give differs from tumor to tumor, and is written as NaN; without other arms there is no
    picture.
    """
    root = dict(TRAJECTORIES["plain"][""])
    for decides in ([0], [0, 1]):
        for name in ("concentration", "blood_concentration"):
            values = root[name].data.copy()
            values[decides] = np.nan
            root[name] = root[name]._replace(data=values)
        own = tmp_path / str(len(decides))
        paths = draw_all({"": root}, own)
        assert ("concentration.png" in [path.name for path in paths]) == (decides == [0])


# --- names ---


def test_long_names_lose_their_middle():
    """The beginning and the end stay, as names often differ there."""
    assert data.shorten("erlotinib", 9) == "erlotinib"
    assert data.shorten("erlotinib 150 mg, arm A", 11) == "erlot\N{HORIZONTAL ELLIPSIS}arm A"
    assert len(data.shorten(LONG, 30)) == 30


def test_a_dollar_sign_is_a_dollar_sign():
    """Names are never set as equations."""
    _, figure = drawn("crowded", figures.burden)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(r"\$x^2" in text for text in texts)
    assert any("_hidden" in text for text in texts)


def test_a_run_cut_short_before_treatment_can_be_drawn(tmp_path):
    """Interrupted while the tumors grew: every size is unknown (-1), and the pictures say so."""
    trajectory = make_trajectory(days=6, replicates=1)
    root = dict(trajectory[""])
    for name in ("burden", "site_burden", "class_count", "other_classes_count", "clone_count"):
        root[name] = root[name]._replace(data=np.full_like(root[name].data, -1))
    root["status"] = root["status"]._replace(data=np.full_like(root["status"].data, 4))
    root["end_day"] = root["end_day"]._replace(data=np.zeros_like(root["end_day"].data))
    assert len(draw_all({**trajectory, "": root}, tmp_path)) == 4
    with figures.own_style():
        texts = [text.get_text() for text in figures.muller({"": root}).axes[0].texts]
    assert texts == ["not followed, or no cells left"]
