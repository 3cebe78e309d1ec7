"""A trajectory comes back bit for bit, and every common reader understands its file."""

import subprocess
import sys
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
import xarray

from jaxevo.engines.base import Trajectory, Variable
from jaxevo.store import read_trajectory, write_trajectory
from tests.trajectories import make_trajectory


def assert_same(found: Trajectory, expected: Trajectory) -> None:
    assert found.keys() == expected.keys()
    for group, variables in expected.items():
        assert found[group].keys() == variables.keys()
        for name, variable in variables.items():
            other = found[group][name]
            assert (other.dims, other.units, other.long_name) == (variable.dims, *variable[2:]), (
                name
            )
            assert other.data.shape == variable.data.shape, name
            if variable.data.dtype.kind == "U":
                assert other.data.tolist() == variable.data.tolist(), name
            else:
                assert other.data.dtype == variable.data.dtype, name
                assert other.data.tobytes() == variable.data.tobytes(), name


# --- round trip ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drugs": ()},
        {"max_level": {}, "has_clones": False},
        {"replicates": 1, "sites": ("tumor",), "drug_death": 5.0, "protection": 0.0},
        {"arms": ("a", "b", "\N{GREEK SMALL LETTER BETA} blocker")},
    ],
)
def test_what_is_read_is_what_was_written(tmp_path, attributes, options):
    """read(write(x)) = x bit for bit: values, types, dimensions, units; also with axes of length 0."""
    trajectory = make_trajectory(days=12, **options)
    write_trajectory(tmp_path / "t.h5", trajectory, attributes)
    found, found_attributes = read_trajectory(tmp_path / "t.h5")
    assert_same(found, trajectory)
    assert found_attributes == attributes
    assert list(map(type, found_attributes.values())) == list(map(type, attributes.values()))


def test_scalars_nan_and_every_type_survive(tmp_path):
    """Variables without dimensions, NaN, infinities, -0.0 and extremes of every type come back bitwise."""
    kinds = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
    extremes = {k: np.array([np.iinfo(k).min, np.iinfo(k).max], k) for k in kinds}
    extremes |= {
        k: np.array([np.nan, -np.inf, -0.0, np.finfo(k).tiny / 2], k) for k in ("f4", "f8")
    }
    extremes["claim"] = np.array([True, False])
    root = {k: Variable((f"axis_{k}",), data, "1", f"type {k}") for k, data in extremes.items()}
    root["scalar"] = Variable((), np.array(7), "d", "no dimension")
    root["scalar_text"] = Variable((), np.array("x"), "1", "no dimension")
    root["scalar_claim"] = Variable((), np.array(True), "1", "no dimension")
    root["nothing"] = Variable(("none", "axis_i1"), np.zeros((0, 2)), "1", "empty")
    write_trajectory(tmp_path / "t.h5", {"": root, "cells": {}}, {})
    assert_same(read_trajectory(tmp_path / "t.h5")[0], {"": root, "cells": {}})


def test_one_trajectory_makes_one_file(trajectory, attributes, tmp_path):
    """Same content, same bytes: no clock and no address gets into the file."""
    for name in ("a.h5", "b.h5"):
        write_trajectory(tmp_path / name, trajectory, attributes)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


# --- other readers ---


def test_xarray_opens_the_file(written, trajectory, attributes):
    """Dimensions, coordinates, units and claims are where xarray looks for them; days stay numbers."""
    with xarray.open_dataset(written, engine="h5netcdf") as dataset:
        assert set(dataset.coords) == {
            "arm", "site", "drug", "alteration", "replicate", "patient", "class",
            "time", "concentration_time", "clone_time",
        }  # fmt: skip
        assert dataset.arm.values.tolist() == ["untreated", "erlotinib daily"]
        assert dataset.time.dtype == np.float64
        assert dataset.time.attrs["units"] == "d"
        assert dataset.is_extinct.dtype == np.bool_
        assert dataset.burden.attrs == {"units": "cells", "long_name": "living cells"}
        assert dataset.attrs["config"] == attributes["config"]
        assert dataset.attrs["empty"] == ""
        for name, variable in trajectory[""].items():
            assert dataset[name].dims == variable.dims, name
            np.testing.assert_array_equal(dataset[name].values, variable.data, err_msg=name)
        at_end = dataset.burden.sel(arm="untreated", time=20.0).values
        np.testing.assert_array_equal(at_end, trajectory[""]["burden"].data[0, ..., -1])


@pytest.mark.parametrize("group", ["lineage", "cells"])
def test_xarray_opens_the_groups(written, trajectory, group):
    """`lineage` and `cells` are tables of their own, alone and as parts of the tree."""
    with xarray.open_dataset(written, engine="h5netcdf", group=group) as table:
        for name, variable in trajectory[group].items():
            assert table[name].dims == variable.dims
            np.testing.assert_array_equal(table[name].values, variable.data, err_msg=name)
    with xarray.open_datatree(written, engine="h5netcdf") as tree:
        table = tree[group].to_dataset(inherit=False)
        assert set(table.data_vars) == set(trajectory[group])


def test_plain_h5py_finds_scales_filters_and_fixed_types(written):
    """Every axis has a scale with its name, every dataset with elements a checksum, no type varies."""
    with h5py.File(written) as file:
        datasets = {}
        file.visititems(
            lambda name, x: datasets.update({name: x} if isinstance(x, h5py.Dataset) else {})
        )
        assert file["burden"].dims[3].keys() == ["time"]
        assert file["arm"].asstr()[:].tolist() == ["untreated", "erlotinib daily"]
        for name, dataset in datasets.items():
            assert dataset.dtype.kind in "iufS", name
            if dataset.is_scale:
                continue
            assert all(len(axis) == 1 for axis in dataset.dims), name
            if dataset.ndim and dataset.size:
                filters = (dataset.fletcher32, dataset.shuffle, dataset.compression)
                assert filters == (True, True, "gzip"), name


@pytest.mark.skipif(find_spec("netCDF4") is None, reason="netCDF4 is not installed")
def test_netcdf4_opens_the_file(written):
    """The netCDF C library reads names, groups and numbers. Own process: it brings its own HDF5."""
    script = f"""if True:
        import netCDF4
        with netCDF4.Dataset({str(written)!r}) as file:
            assert list(file["arm"][:]) == ["untreated", "erlotinib daily"]
            assert file["burden"].dimensions == ("arm", "patient", "replicate", "time")
            assert file["burden"].units == "cells" and file["burden"][:].min() > 0
            assert file["lineage/id"].dimensions == ("clone_event",)
            assert (file["lineage/parent"][:] < 0).sum() == 2
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_flipped_bit_in_values_is_seen_by_other_readers(written):
    """fletcher32 stops plain HDF5 readers, who do not know the seal, at a damaged chunk."""
    with h5py.File(written) as file:
        place = file["burden"].id.get_chunk_info(0).byte_offset
    content = bytearray(written.read_bytes())
    content[place + 5] ^= 1
    written.write_bytes(content)
    with h5py.File(written) as file, pytest.raises(OSError, match="filter returned failure"):
        file["burden"][()]


# --- what cannot be stored ---


@pytest.mark.parametrize(
    ("variables", "attributes", "message"),
    [
        ({"a": (("x",), np.zeros(2, np.float16))}, {}, "float16"),
        ({"a": (("x",), np.zeros(2, complex))}, {}, "complex128"),
        ({"a": (("x",), np.array([{}, {}]))}, {}, "object"),
        ({"a": (("x", "y"), np.zeros(2))}, {}, "has the shape"),
        ({"a": (("x", "x"), np.zeros((2, 2)))}, {}, "has the shape"),
        ({"a": (("x",), np.zeros(2)), "b": (("x",), np.zeros(3))}, {}, "2 elements, but 3"),
        ({"a": (("x",), np.zeros(2)), "x": (("y",), np.zeros(2))}, {}, "not its coordinate"),
        ({"a/b": (("x",), np.zeros(2))}, {}, "letters, digits"),
        ({"a": (("x",), np.array(["b\0c"]))}, {}, "zero character"),
        ({}, {"format": "mine"}, "written by the store itself"),
        ({}, {"seed": 2**63}, "64 bits"),
        ({}, {"config": "a\0"}, "zero character"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, variables, attributes, message):
    """Bad types, axes that do not fit and bad names end in a sentence, before a file is there."""
    root = {name: Variable(*variable, "1", "x") for name, variable in variables.items()}
    with pytest.raises(ValueError, match=message):
        write_trajectory(tmp_path / "t.h5", {"": root}, attributes)
    assert list(tmp_path.iterdir()) == []
