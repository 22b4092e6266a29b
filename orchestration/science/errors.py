"""Every error of the science programs, grouped by what the reader of it can do.

::

    ScienceError
    ├── ParametersInvalid       an option or a key of a parameter file is wrong
    ├── ScanUnreadable          the file is not the scan it should be
    │   ├── ScanMissing
    │   ├── ScanEmpty           zero bytes
    │   ├── NotHdf5
    │   ├── ScanTruncated
    │   ├── ScanStillOpen       a writer has it open, or died with it open
    │   ├── RawUnsettled        it was written to a moment ago
    │   ├── ProjectionsMissing
    │   ├── FlatsMissing
    │   ├── AnglesMissing
    │   ├── ShapeMismatch
    │   ├── FramesNotFinite     NaN or infinite values
    │   ├── FormatUnknown       of none of the formats that can be read
    │   ├── EventsInvalid       photon events that no detector can have sent
    │   │   └── NotPhotons      counts of frames that cannot be correlated as events
    │   └── MetadataMissing     the file that describes the measurement
    ├── QmapInvalid             the maps of q-bins break a rule, or do not fit the detector
    ├── CenterNotFound
    ├── DeviceMissing           a GPU was asked for and there is none that works
    ├── OutputFailed            the result cannot be written there
    │   ├── NameTooLong
    │   └── PictureFailed       the numbers are there, a picture of them is not
    ├── ResultInvalid           a result that was computed is not what it must be
    └── Interrupted

Each says what happened, where, and what to do next, in one sentence (``str(error)``), and keeps the three apart.
"""

from __future__ import annotations

from typing import ClassVar


class ScienceError(Exception):
    """Base of all errors that are meant to be read by a person."""

    next_step_default: ClassVar[str] = "read the log of this run, then run the same command again"

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = where
        self.next_step = next_step.rstrip(".") or self.next_step_default
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """What, where and what next, as one line."""
        place = f" ({self.where})" if self.where else ""
        return " ".join(f"{self.what}{place}. Next: {self.next_step}.".split())

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their args, which here are the sentence; the parts must survive a process border.
        return (_rebuild, (type(self), self.what, self.where, self.next_step))


def _rebuild(kind: type[ScienceError], what: str, where: str, next_step: str) -> ScienceError:
    return kind(what, where=where, next_step=next_step)


def typed(error: Exception) -> ScienceError:
    """What is to be told of any exception: itself, or the one of this tree that says what a person can do."""
    if isinstance(error, ScienceError):
        return error
    if isinstance(error, MemoryError):
        return OutputFailed("memory ran out", next_step="give less with --memory, or use a machine that has more")
    if isinstance(error, OSError):
        return OutputFailed(f"{error.strerror or error}", where=str(error.filename or ""))
    return ScienceError(f"{type(error).__name__}: {error}", next_step="report this defect with the log")


class ParametersInvalid(ScienceError):
    """Raised when an option or a key of a parameter file is wrong."""

    next_step_default = "correct the parameter; --help lists them all"


class ScanUnreadable(ScienceError):
    """Raised when a file is not the scan it should be."""

    next_step_default = "check that acquisition has finished and the file opens, then start again"


class ScanMissing(ScanUnreadable):
    """Raised when there is no such file, or it may not be read."""

    next_step_default = "check the path and its permissions"


class ScanEmpty(ScanUnreadable):
    """Raised when a file has no bytes at all."""

    next_step_default = "copy the file again from the detector"


class NotHdf5(ScanUnreadable):
    """Raised when a file is of another format."""

    next_step_default = "give a Data Exchange HDF5 file"


class ScanTruncated(ScanUnreadable):
    """Raised when the end of a file is missing."""

    next_step_default = "copy the file again from the detector"


class ScanStillOpen(ScanUnreadable):
    """Raised when a writer has the file open, or died with it open."""

    next_step_default = "wait until acquisition has closed the file; if its writer died, run `h5clear -s` on a copy"


class RawUnsettled(ScanUnreadable):
    """Raised when a raw file, or its metadata, was written to a moment ago: there may be more to come."""

    next_step_default = "wait until acquisition has ended, then start again"


class ProjectionsMissing(ScanUnreadable):
    """Raised when a file has no ``/exchange/data``."""

    next_step_default = "give a Data Exchange file with projections in /exchange/data"


class FlatsMissing(ScanUnreadable):
    """Raised when a file has neither flat or dark fields nor constants that stand for them."""

    next_step_default = "give the constant with --flat-value or --dark-value, or scan again with flats and darks"


class AnglesMissing(ScanUnreadable):
    """Raised when nothing in a file says at which angles it was taken."""

    next_step_default = "give the covered range in degrees with --angle-range"


class ShapeMismatch(ScanUnreadable):
    """Raised when the arrays of a file do not fit each other."""

    next_step_default = "check the acquisition program: this file cannot be reconstructed as it is"


class FramesNotFinite(ScanUnreadable):
    """Raised when frames hold NaN or infinite values."""

    next_step_default = "repair or cut out the named frames"


class FormatUnknown(ScanUnreadable):
    """Raised when a file is of none of the formats that can be read."""

    next_step_default = "give a raw file of Rigaku (.bin, .bin.000), IMM or NeXus"


class EventsInvalid(ScanUnreadable):
    """Raised when photon events lie outside the detector, or are not in the order of their frames."""

    next_step_default = "copy the file again from the detector; if it stays so, the detector's program wrote it wrongly"


class NotPhotons(EventsInvalid):
    """Raised when a pixel of a frame that is taken for photon events has more counts than those have, or fractions."""

    next_step_default = "correlate whole frames: --method dense"


class MetadataMissing(ScanUnreadable):
    """Raised when the file that describes the measurement is not beside the raw file, or is not readable."""

    next_step_default = "put the <name>_metadata.hdf of the acquisition beside the raw file"


class QmapInvalid(ScienceError):
    """Raised when the maps of q-bins break a rule on which the correlation relies, or do not fit the detector."""

    next_step_default = "make the qmap again with its mask applied, for this detector"


class CenterNotFound(ScienceError):
    """Raised when the centre of rotation cannot be found in the data."""

    next_step_default = "give it with --center"


class DeviceMissing(ScienceError):
    """Raised when a GPU was asked for and none works here."""

    next_step_default = "install the `gpu` extra on a machine with a CUDA device, or use --device cpu"


class DeviceFailed(ScienceError):
    """Raised when a GPU fails while it computes."""

    next_step_default = "start it again, with less --memory if the GPU ran out of it, or on processors (--gpu-id -1)"


class OutputFailed(ScienceError):
    """Raised when a result cannot be written."""

    next_step_default = "free space or choose another folder with --out, then run the same command again"


class NameTooLong(OutputFailed):
    """Raised when the name of a result would be longer than file systems allow."""

    next_step_default = "rename the scan"


class PictureFailed(OutputFailed):
    """Raised when a picture cannot be drawn; the others are not touched by that."""

    next_step_default = "report this defect with the result file; its numbers are not affected"


class ResultInvalid(ScienceError):
    """Raised when a result that was computed is not what it must be; it is not put in place."""

    next_step_default = "check the raw data and the qmap named above; the log has the figures"


class Interrupted(ScienceError):
    """Raised when this program was told to stop; nothing half-written is left."""

    next_step_default = "run the same command again"
