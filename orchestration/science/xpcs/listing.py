"""What belongs to a measurement, told from the names of the files of its folder; nothing is opened, nor looked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestration.science.errors import FormatUnknown, MetadataMissing, ScanMissing

METADATA_ENDING = "_metadata.hdf"

_FIRST_OF_SIX = ".bin.000"
_ONE_OF_SIX = re.compile(r"\.bin\.00[0-5]$")
_HDF5 = (".h5", ".hdf", ".hdf5")
_SHOWN = 12
"""Names in a sentence."""


def metadata_name(raw_name: str, names: Iterable[str], *, where: str = "") -> str:
    """The ``*_metadata.hdf`` among the names of a folder that describes a raw file of it.

    Raises:
        MetadataMissing: if there is none, or several of which none is called like the raw file.
    """
    found = sorted(name for name in names if name.endswith(METADATA_ENDING))
    named = [name for name in found if base(name) and raw_name.startswith(base(name))]
    chosen = sorted(named, key=len)[-1:] or found
    if len(chosen) != 1:
        what = f"not one metadata file belongs to {raw_name}: there are {_listed(found)}"
        raise MetadataMissing(what, where=where or raw_name)
    return chosen[0]


def base(metadata: str) -> str:
    """With what the names of its results begin."""
    return metadata.removesuffix(METADATA_ENDING)


def part_names(raw_name: str, *, where: str = "") -> tuple[str, ...]:
    """All files that the raw data consists of, as far as its name says: six of a Rigaku 3M, else one.

    Raises:
        FormatUnknown: if this is one of six, and not the first.
    """
    if _ONE_OF_SIX.search(raw_name) is None:
        return (raw_name,)
    if not raw_name.endswith(_FIRST_OF_SIX):
        what = "this is not the first of the six files of a Rigaku 3M"
        raise FormatUnknown(what, where=where or raw_name, next_step=f"give {raw_name[:-1]}0")
    return tuple(f"{raw_name[:-1]}{number}" for number in range(6))


def raw_parts(raw_name: str, names: Iterable[str]) -> tuple[str, ...]:
    """The files of `part_names`, which are all among the names of the folder.

    Raises:
        FormatUnknown: as there.
        ScanMissing: naming those that are not.
    """
    parts, there = part_names(raw_name), set(names)
    missing = [part for part in parts if part not in there]
    if missing:
        of = f" of the six files of {raw_name}" if len(parts) > 1 else ", the raw file"
        next_step = "copy the missing files from the detector" if len(parts) > 1 else ScanMissing.next_step_default
        raise ScanMissing(f"there is no {', '.join(missing)}{of}", where=missing[0], next_step=next_step)
    return parts


def find_raw(names: Iterable[str], *, where: str = "") -> str:
    """The raw file of a folder that holds one measurement; of a Rigaku 3M the first.

    Raises:
        ScanMissing: if none of the names is that of a raw file.
        FormatUnknown: if several are.
    """
    there = sorted(names)
    found = [name for name in there if may_be_raw(name)]
    if not found:
        what = f"no raw file is among the files of the folder, which are {_listed(there)}"
        raise ScanMissing(what, where=where, next_step=FormatUnknown.next_step_default)
    if len(found) > 1:
        what = f"each of {_listed(found)} may be the raw file"
        raise FormatUnknown(what, where=where, next_step="name the one that is")
    return found[0]


def may_be_raw(name: str) -> bool:
    """Whether a file of that name is the raw data of a measurement, or the first part of it."""
    if name.startswith("."):
        return False
    if name.endswith(_HDF5):
        return not (name.endswith(METADATA_ENDING) or "_results" in name or "qmap" in name.lower())
    return name.endswith((".bin", _FIRST_OF_SIX, ".imm"))


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} others" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more
