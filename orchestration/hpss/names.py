"""Names of files: which of them htar takes, and how all of them are written where not every byte may stand.

A name is text as `os.fsdecode` makes it: bytes that are not UTF-8 are lone surrogates in it, and come back whole.
"""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import quote

PREFIX_BYTES, NAME_BYTES = 154, 99
"""What the header of a member has room for, before and after one of the slashes."""

_SAFE = "/@+=,"
"""Besides letters, digits and ``_.-~``: what neither hsi nor its patterns read as anything else."""


def encoded(name: str) -> str:
    """As an object of the archive is called, of which hsi allows only printable ASCII: ``%20`` for a space, and so on.

    Different names stay different.
    """
    return quote(os.fsencode(name), safe=_SAFE)


def printable(name: str) -> str:
    """As people and the ledger read it: itself, but for bytes that are not UTF-8 and control characters."""
    return "".join(char if _shown(char) else _escape(char) for char in name)


def unbundled(name: str) -> str:
    """Why htar cannot take a file of that name; empty if it can."""
    raw = os.fsencode(name)
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        return "a control character in its name"
    if name != name.strip() or name.startswith("-"):
        return "a name that begins or ends with a space, or begins with a dash"
    if not _fits(raw):
        return f"a path of {len(raw)} bytes that cannot be split into {PREFIX_BYTES} and {NAME_BYTES}"
    return ""


def _fits(raw: bytes) -> bool:
    if len(raw) <= NAME_BYTES:
        return True
    cuts = (at for at, byte in enumerate(raw) if byte == ord("/"))
    return any(at <= PREFIX_BYTES and len(raw) - at - 1 <= NAME_BYTES for at in cuts)


def _shown(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
