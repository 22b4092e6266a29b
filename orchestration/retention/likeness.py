"""How copies are compared: with what stands at their places, and with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.transfers import FileFacts

CLOCK_SLACK_SECONDS = 120.0
"""How far the clock of an endpoint may be off when its time of change is compared with ours."""


def unlike(copy: CopyRecord, facts: FileFacts | None) -> tuple[CopyState, str]:
    """What a look at a copy says of it: `present`, or `missing` or `changed` with the reason.

    A look sees sizes and times; bytes that were changed under the same time only a checksum tells.
    """
    found = {} if facts is None else _found(copy, facts)
    if facts is None or (copy.files and not found):
        return CopyState.MISSING, "it is not there any more"
    if _sizes(copy.manifest) != found:
        return CopyState.CHANGED, "its files are not those that were verified"
    if facts.modified > copy.evidence_at + CLOCK_SLACK_SECONDS:
        return CopyState.CHANGED, "it was changed after it was verified"
    return CopyState.PRESENT, ""


def change(copy: CopyRecord, facts: FileFacts | None) -> str:
    """Whether more than the copy would be deleted: what stands there was written since; empty if not.

    Files that are missing are no loss: the rest of a deletion that was interrupted may go on.
    """
    if facts is None:
        return ""
    known, found = _expected(copy), _found(copy, facts)
    if not found:
        return ""
    if any(known.get(path) != size for path, size in found.items()):
        return "what stands there is not what was verified"
    # The version of an original is that of its file. Elsewhere, the time of change must do.
    if copy.role is Role.ORIGINAL and copy.version:
        return "" if facts.version == copy.version else "the file was written anew after it was carried"
    if facts.modified > copy.evidence_at + CLOCK_SLACK_SECONDS:
        return "it was changed after it was verified"
    return ""


def _found(copy: CopyRecord, facts: FileFacts) -> Mapping[str, int]:
    """The size of each file that was found, by its path below the copy: an archive may have the only file of a folder
    by itself.
    """
    if copy.role is Role.ARCHIVE and copy.files == 1 and not facts.is_directory:
        return {copy.manifest[0].path: facts.size}
    return facts.sizes


def _expected(copy: CopyRecord) -> Mapping[str, int]:
    """The size of each file by its path below what is deleted with the copy."""
    sizes = _sizes(copy.manifest)
    if copy.quarantined_at is None:
        return sizes
    name = copy.lies_at.name
    return {f"{name}/{path}" if path else name: size for path, size in sizes.items()}


def difference(one: Sequence[FileEvidence], other: Sequence[FileEvidence]) -> str:
    """Whether two copies of a dataset hold the same bytes, as far as their evidence goes."""
    if _sizes(one) != _sizes(other):
        return "its sizes differ"
    sums = {entry.path: entry.checksum for entry in one}
    for entry in other:
        mine, theirs = sums[entry.path], entry.checksum
        if mine is None or theirs is None:
            return "it has no checksum"
        if COMPARED != _algorithm(mine) == _algorithm(theirs) and mine != theirs:
            return f"the checksum of {entry.path or 'the file'} differs"
    return ""


def _algorithm(checksum: str) -> str:
    return checksum.partition(":")[0].lower()


def _sizes(manifest: Sequence[FileEvidence]) -> dict[str, int]:
    return {entry.path: entry.size for entry in manifest}
