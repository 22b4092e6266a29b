"""What can go wrong with a task, in the words of the real service."""

from __future__ import annotations

import errno

DESCRIPTIONS = {
    "CANCELED": "canceled",
    "EXPIRED": "expired",
    "EXTERNAL_CHECKSUM_MISMATCH": "external checksum mismatch",
    "FILE_NOT_FOUND": "file not found",
    "FILE_SIZE_CHANGED": "file size changed",
    "GC_NOT_CONNECTED": "Globus Connect Personal not connected",
    "IS_A_DIRECTORY": "is a directory",
    "NOT_A_DIRECTORY": "not a directory",
    "NO_SPACE_LEFT": "no space left",
    "PAUSED_BY_ADMIN": "paused by administrator",
    "PERMISSION_DENIED": "permission denied",
    "QUOTA_EXCEEDED": "quota exceeded",
    "UNKNOWN": "unknown error",
    "VERIFY_CHECKSUM": "checksum verification failed",
}

SKIPPABLE = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED"})
"""What `skip_source_errors` forgives."""

FATAL = frozenset({"IS_A_DIRECTORY", "NOT_A_DIRECTORY", "EXTERNAL_CHECKSUM_MISMATCH"})
"""What ends a transfer at once; everything else is tried again until the deadline or a cancel."""


class Fault(Exception):
    """Something went wrong with one file, directory or connection of a task."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.details = details


class Ended(Exception):
    """The task must stop now: it was cancelled or reached its deadline (`code` says which)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Stopping(Exception):
    """The facility is being shut down: the task stays active and goes on when it is back."""


def describe(code: str) -> str:
    return DESCRIPTIONS.get(code, code.lower().replace("_", " "))


def of(error: OSError) -> str:
    """The code for an error of the file system."""
    named = {
        errno.ENOENT: "FILE_NOT_FOUND",
        errno.EACCES: "PERMISSION_DENIED",
        errno.EPERM: "PERMISSION_DENIED",
        errno.ENOTDIR: "NOT_A_DIRECTORY",
        errno.EISDIR: "IS_A_DIRECTORY",
        errno.ENOSPC: "NO_SPACE_LEFT",
        errno.EDQUOT: "QUOTA_EXCEEDED",
    }
    return named.get(error.errno or 0, "UNKNOWN")
