"""Results on disk. The only door to h5py."""

from jaxevo.store.files import StoreError
from jaxevo.store.provenance import provenance
from jaxevo.store.trajectory import (
    read_screen,
    read_trajectory,
    write_screen,
    write_trajectory,
)

__all__ = [
    "StoreError",
    "provenance",
    "read_screen",
    "read_trajectory",
    "write_screen",
    "write_trajectory",
]
