"""Results on disk. The only door to h5py."""

from jaxevo.store.files import StoreError
from jaxevo.store.provenance import provenance
from jaxevo.store.trajectory import (
    read_schedule,
    read_screen,
    read_trajectory,
    write_schedule,
    write_screen,
    write_trajectory,
)

__all__ = [
    "StoreError",
    "provenance",
    "read_schedule",
    "read_screen",
    "read_trajectory",
    "write_schedule",
    "write_screen",
    "write_trajectory",
]
