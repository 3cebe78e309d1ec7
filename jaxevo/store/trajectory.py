"""The finished trajectory: one HDF5 file that jaxevo, xarray, netCDF4 and plain h5py all read.

Layout (netCDF-4): every variable is a dataset with `units` and `long_name`; every dimension is a
dimension scale, either the coordinate variable of that name (`time`, `arm`, `site`, ...) or an index
without values. Groups (`lineage`, `cells`) have their own dimensions. Types are of fixed length,
text is UTF-8, claims are int8 with `dtype = "bool"`. Whatever has elements is gzipped, shuffled and
carries a fletcher32 checksum for other readers; our own check is the seal of the whole file (`files`).

The file is built in memory and written in one piece: HDF5 written in place is lost with the process
that writes it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from jaxevo.engines.base import Trajectory, Variable
from jaxevo.store import files
from jaxevo.store.files import StoreError

FORMAT_VERSION = 1

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LIBVER = ("v108", "v108")  # the oldest format with checksummed metadata; every reader knows it
_INDEX_SCALE = "This is a netCDF dimension but not a netCDF variable."
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_MAX_INFLATION = 1100  # deflate reaches 1032:1; a file that declares more does not hold it
_NUMBERS = {np.dtype(kind) for kind in ("i1 i2 i4 i8 u1 u2 u4 u8 f4 f8".split())}

Attribute = str | int | float


def write_trajectory(
    path: Path | str, trajectory: Trajectory, attributes: Mapping[str, Attribute]
) -> None:
    """Write a new trajectory file: whole and durable, or not at all.

    Args:
        path: must not exist yet.
        trajectory: numbers (integers, float32, float64), claims and text; every dimension has one size.
        attributes: of the whole file, such as the resolved study and `provenance()`.

    Raises:
        StoreError: the file exists, or the disk is full or fails.
        ValueError: the trajectory or an attribute cannot be stored.
    """
    _write("trajectory", path, trajectory, attributes)


def write_screen(path: Path | str, arrays: Trajectory, attributes: Mapping[str, Attribute]) -> None:
    """Write a new file of a screen, likewise."""
    _write("screen", path, arrays, attributes)


def read_trajectory(path: Path | str) -> tuple[Trajectory, dict[str, Attribute]]:
    """Read a trajectory file back, bit for bit, with the attributes it was written with.

    Raises:
        StoreError: there is no such file, it is damaged, too new, or not a trajectory.
    """
    return _read("trajectory", Path(path))


def read_screen(path: Path | str) -> tuple[Trajectory, dict[str, Attribute]]:
    """Read a file of a screen back, likewise."""
    return _read("screen", Path(path))


def _write(
    kind: str, path: Path | str, arrays: Trajectory, attributes: Mapping[str, Attribute]
) -> None:
    image = _build_image(kind, arrays, attributes)
    files.commit(Path(path), image, files.seal(image))


def _read(kind: str, path: Path) -> tuple[Trajectory, dict[str, Attribute]]:
    content = files.read_whole(path)
    if not content.startswith(_SIGNATURE):
        raise StoreError(f"{path} is not an HDF5 file, expected a {kind} written by jaxevo")
    files.check_seal(path, content)
    try:
        with h5py.File.in_memory(content) as file:
            attributes = _read_file_attributes(kind, file)
            return _read_groups(file, max_bytes=_MAX_INFLATION * len(content)), attributes
    except StoreError as error:
        raise StoreError(f"{path} {error}") from error.__cause__
    except Exception as error:  # h5py has no base class for what a malformed file makes it raise
        raise StoreError(f"{path} could not be understood as HDF5: {error}") from error


# --- writing ---


class _Scale(NamedTuple):
    """A dimension in the file: its dataset, its netCDF number, its length."""

    dataset: h5py.Dataset
    number: int
    size: int


def _format(kind: str) -> str:
    return f"jaxevo {kind}"


def _build_image(kind: str, trajectory: Trajectory, attributes: Mapping[str, Attribute]) -> bytes:
    own = {"format": _format(kind), "format_version": FORMAT_VERSION}
    if taken := own.keys() & attributes.keys():
        raise ValueError(f"attribute {taken.pop()!r} is written by the store itself")
    numbers = itertools.count()
    with h5py.File.in_memory(libver=_LIBVER, track_order=True, block_size=1 << 22) as file:
        root = _write_group(file, trajectory.get("", {}), {}, numbers)
        for name, variables in trajectory.items():
            if name:
                _check_name("group", name)
                _write_group(file.create_group(name, track_order=True), variables, root, numbers)
        for name, value in (own | dict(attributes)).items():
            _check_name("attribute", name)
            file.attrs[name] = _attribute_value(name, value)
        file.flush()
        return file.id.get_file_image()


def _write_group(
    group: h5py.Group,
    variables: dict[str, Variable],
    inherited: dict[str, _Scale],
    numbers: Iterator[int],
) -> dict[str, _Scale]:
    """Write one group; `inherited` are the dimensions of the root. Returns those visible here."""
    scales = dict(inherited)
    for dim, size in _dimension_sizes(variables, inherited).items():
        if dim in inherited:
            continue
        if dim in variables:
            dataset = _write_data(group, dim, variables[dim])
            dataset.make_scale(dim)
        else:
            dataset = group.create_dataset(dim, shape=(size,), dtype=">f4")  # never filled
            dataset.make_scale(f"{_INDEX_SCALE}{size:10d}")
        scales[dim] = _Scale(dataset, next(numbers), size)
        dataset.attrs["_Netcdf4Dimid"] = np.int32(scales[dim].number)
    for name, variable in variables.items():
        if variable.dims == (name,):
            continue
        dataset = _write_data(group, name, variable)
        for axis, dim in enumerate(variable.dims):
            dataset.dims[axis].attach_scale(scales[dim].dataset)
        if variable.dims:
            numbers_of_dims = [scales[dim].number for dim in variable.dims]
            dataset.attrs["_Netcdf4Coordinates"] = np.array(numbers_of_dims, np.int32)
    return scales


def _dimension_sizes(
    variables: dict[str, Variable], inherited: Mapping[str, _Scale]
) -> dict[str, int]:
    """Length of every dimension that a group uses, in order of appearance; checks that they fit."""
    sizes: dict[str, int] = {}
    for name, (dims, data, _, _) in variables.items():
        _check_name("variable", name)
        shape = np.shape(data)
        if len(set(dims)) != len(dims) or len(dims) != len(shape):
            raise ValueError(f"variable {name!r} has the shape {shape}, its dimensions are {dims}")
        for dim, size in zip(dims, shape, strict=True):
            _check_name("dimension", dim)
            known = inherited[dim].size if dim in inherited else size
            if sizes.setdefault(dim, known) != size:
                raise ValueError(
                    f"dimension {dim!r} has {sizes[dim]} elements, but {size} in variable {name!r}"
                )
    for name in sizes.keys() & variables.keys():
        if variables[name].dims != (name,) or name in inherited:
            raise ValueError(
                f"variable {name!r} has the name of a dimension but is not its coordinate"
            )
    return sizes


def _write_data(group: h5py.Group, name: str, variable: Variable) -> h5py.Dataset:
    """One dataset with its values, unit and description, its dimensions not yet attached."""
    data = np.asarray(variable.data)
    attributes = {"units": variable.units, "long_name": variable.long_name}
    if data.dtype == np.bool_:
        data = data.astype(np.int8)
        attributes["dtype"] = "bool"  # as xarray marks claims
    elif data.dtype.kind in "US":
        data = _encode(name, data)
        attributes["_Encoding"] = "utf-8"  # makes xarray decode text
    elif data.dtype.newbyteorder("=") not in _NUMBERS:
        raise ValueError(f"variable {name!r} has the type {data.dtype}, which cannot be stored")
    filters = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    dataset = group.create_dataset(name, data=data, **(filters if data.ndim and data.size else {}))
    for key, text in attributes.items():
        dataset.attrs[key] = _attribute_value(f"{name}.{key}", text)
    return dataset


def _encode(name: str, data: np.ndarray) -> np.ndarray:
    """Text as UTF-8 of one fixed length, at least 2: readers take length 1 for single characters."""
    texts = [x.decode() if isinstance(x, bytes) else x for x in data.ravel().tolist()]
    if any("\0" in text for text in texts):
        raise ValueError(
            f"variable {name!r} has a text with a zero character, which cannot be stored"
        )
    encoded = [text.encode() for text in texts]
    kind = h5py.string_dtype("utf-8", max([2, *map(len, encoded)]))
    return np.array(encoded, kind).reshape(data.shape)


def _attribute_value(name: str, value: Attribute) -> np.ndarray:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"attribute {name!r} has a zero character, which cannot be stored")
        encoded = value.encode()
        return np.array(encoded, h5py.string_dtype("utf-8", max(2, len(encoded))))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"attribute {name!r} is {value}, which does not fit in 64 bits")
    if isinstance(value, (int, float)):
        return np.array(value, np.int64 if isinstance(value, int) else np.float64)
    raise ValueError(f"attribute {name!r} must be text or a number, got {type(value).__name__}")


def _check_name(kind: str, name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"{kind} {name!r} must be letters, digits and underscores")


# --- reading: nothing is trusted before it was checked ---


def _read_file_attributes(kind: str, file: h5py.File) -> dict[str, Attribute]:
    """The attributes that the writer was given; refuses what is of another kind or too new."""
    if "format" not in file.attrs or _read_attribute(file, "format") != _format(kind):
        raise StoreError(f"is an HDF5 file, but not a {kind} written by jaxevo")
    version = _read_attribute(file, "format_version")
    if version not in range(1, FORMAT_VERSION + 1):
        raise StoreError(
            f"has format version {version}, this jaxevo reads up to {FORMAT_VERSION}: update jaxevo"
        )
    own = ("format", "format_version")
    return {name: _read_attribute(file, name) for name in file.attrs if name not in own}


def _read_groups(file: h5py.File, max_bytes: int) -> Trajectory:
    """Check every object of the file, then read it.

    Args:
        max_bytes: more than the file can hold; declared sizes that add up to more are refused.
    """
    root = _members(file)
    groups = {"": {name: x for name, x in root.items() if not isinstance(x, h5py.Group)}}
    groups |= {name: _members(x) for name, x in root.items() if isinstance(x, h5py.Group)}
    declared = 0
    for dataset in itertools.chain.from_iterable(x.values() for x in groups.values()):
        if not isinstance(dataset, h5py.Dataset):
            raise StoreError(f"has the unexpected object {dataset.name!r}")
        _check_dataset(dataset)
        declared += 0 if _is_index(dataset) else _declared_bytes(dataset)
    if declared > max_bytes:
        raise StoreError("declares more values than a file of its size can hold")
    dims = {_netcdf_number(x): name for members in groups.values() for name, x in members.items()}
    return {
        group: {
            name: _read_variable(name, dataset, dims)
            for name, dataset in members.items()
            if not _is_index(dataset)
        }
        for group, members in groups.items()
    }


def _members(group: h5py.Group) -> dict[str, Any]:
    """What a group holds. Links out of the file are refused before they are followed."""
    names = [str(name) for name in group]
    for name in names:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise StoreError(f"has a link to elsewhere in {group.name!r}, which is not followed")
    return {name: group[name] for name in names}


def _check_dataset(dataset: h5py.Dataset) -> None:
    """Refuse values that lie in another file, need a plugin, or have no fixed length."""
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise StoreError(f"keeps {dataset.name!r} in another file, which is not followed")
    for index in range(layout.get_nfilters()):
        if layout.get_filter(index)[0] not in _FILTERS:
            raise StoreError(f"compresses {dataset.name!r} in a way that jaxevo does not write")
    kind = dataset.id.get_type()
    is_text = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    is_number = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    if not is_text and not (is_number and dataset.dtype.newbyteorder("=") in _NUMBERS):
        raise StoreError(f"has values of an unexpected type in {dataset.name!r}")
    if dataset.shape is None:
        raise StoreError(f"has no values in {dataset.name!r}")


def _declared_bytes(dataset: h5py.Dataset) -> int:
    """Memory that reading takes: the values, and one chunk of them."""
    shapes = [dataset.shape, dataset.chunks or ()]
    return sum(math.prod(shape) * dataset.dtype.itemsize for shape in shapes)


def _is_index(dataset: h5py.Dataset) -> bool:
    """Is this a dimension without values? Its numbers are never read."""
    label = _read_attribute(dataset, "NAME") if "NAME" in dataset.attrs else ""
    return str(label).startswith(_INDEX_SCALE)


def _netcdf_number(dataset: h5py.Dataset) -> Attribute | None:
    """Number of a dimension, by which variables name it; None for what is no dimension."""
    return _read_attribute(dataset, "_Netcdf4Dimid") if "_Netcdf4Dimid" in dataset.attrs else None


def _read_variable(
    name: str, dataset: h5py.Dataset, dims: Mapping[Attribute | None, str]
) -> Variable:
    data = np.asarray(dataset[()])
    if dataset.dtype.kind == "S":
        data = np.char.decode(data.astype(np.bytes_), "utf-8")
    elif "dtype" in dataset.attrs and _read_attribute(dataset, "dtype") == "bool":
        data = data.astype(np.bool_)
    if _netcdf_number(dataset) is not None:
        names = (name,)
    elif dataset.ndim:
        names = tuple(dims[number] for number in _read_numbers(dataset, "_Netcdf4Coordinates"))
    else:
        names = ()
    if len(names) != data.ndim:
        raise StoreError(
            f"names {len(names)} dimensions of {dataset.name!r}, which has {data.ndim}"
        )
    units, long_name = (_read_attribute(dataset, key) for key in ("units", "long_name"))
    return Variable(names, data, str(units), str(long_name))


def _read_attribute(owner: h5py.HLObject, name: str) -> Attribute:
    """One text or number."""
    value = _read_fixed(owner, name)
    return value.decode() if isinstance(value, bytes) else value.item()


def _read_numbers(owner: h5py.HLObject, name: str) -> list[int]:
    """A list of integers."""
    return np.atleast_1d(_read_fixed(owner, name)).tolist()


def _read_fixed(owner: h5py.HLObject, name: str) -> Any:
    """An attribute as h5py gives it; types of variable length are refused before they are read."""
    kind = h5py.h5a.open(owner.id, name.encode()).get_type()
    is_text = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    if not is_text and kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        raise StoreError(f"has an attribute of an unexpected type, {name!r} of {owner.name!r}")
    return owner.attrs[name]
