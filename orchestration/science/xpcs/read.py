"""Opening raw files: the format is that of the name or, where the name does not say, of the contents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from orchestration.science import hdf5
from orchestration.science.errors import FormatUnknown
from orchestration.science.xpcs.binary import Witness, open_binary
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.imm import looks_like_imm, open_imm
from orchestration.science.xpcs.listing import part_names
from orchestration.science.xpcs.nexus import open_nexus
from orchestration.science.xpcs.rigaku import open_3m, open_500k


@contextmanager
def open_raw(path: Path) -> Iterator[DenseRaw | SparseRaw]:
    """Open the raw data of a measurement for reading; of a Rigaku 3M, `path` is that of the first file.

    Raises:
        FormatUnknown: if it is of none of the formats.
        ScanUnreadable: or one of its kinds, each naming what is wrong with the file.
        ScanStillOpen: also when the context ends, if the file changed in the meantime.
    """
    with _opener(path) as raw:
        yield raw


def _opener(path: Path) -> AbstractContextManager[DenseRaw | SparseRaw]:
    if len(part_names(path.name, where=str(path))) > 1:
        return open_3m(path)
    if path.name.endswith(".bin"):
        return open_500k(path)
    Witness.of(path)
    with open_binary(path) as file:
        signature = file.peek(0, len(hdf5.SIGNATURE))
    if signature == hdf5.SIGNATURE:
        return open_nexus(path)
    if path.suffix == ".imm" or looks_like_imm(path):
        return open_imm(path)
    raise FormatUnknown("the raw file is neither HDF5 nor IMM, and its name is not one of Rigaku's", where=str(path))
