"""What is made of one measurement: its correlation, and the pictures of that. Where they lie, and what they are called.

::

    <folder of the dataset>/<qmap>_<digest>/<measurement>_results.hdf        what viewers open
                                            <measurement>_results.json       its receipt
                                            files.json                       the list of all files, for the portal
                                            resources/*.png, metadata.json   pictures, fits, what the index is told
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.flows.aps8idi.measurement import Measurement
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.copying import Dataset
from orchestration.ledger.copy import Role
from orchestration.ledger.operation import canonical
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts

RESOURCES = "resources"
QMAP = "qmap"
METADATA = "metadata.json"
FILES = "files.json"


@dataclass(frozen=True, kw_only=True)
class Qmap:
    """The file of the q-bins, as its endpoint has it now."""

    endpoint: Endpoint
    path: RelativePath
    facts: FileFacts

    @property
    def digest(self) -> str:
        """Tells it from others of that name, and from what it was before it was written anew."""
        told = canonical([self.endpoint.name, self.path.text, self.facts.version])
        return hashlib.sha256(told.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """One correlation of one measurement, and the folder that is its own."""

    measurement: Measurement
    qmap: Qmap
    folder: RelativePath
    options: Options
    suffix: str = ""
    request: str = ""

    @property
    def name(self) -> str:
        """What the result is called, without its ending."""
        return "_".join(part for part in (self.measurement.stem, self.suffix, "results") if part)

    @property
    def result(self) -> RelativePath:
        return self.folder / f"{self.name}.hdf"

    @property
    def receipt(self) -> RelativePath:
        return self.folder / f"{self.name}.json"

    # ----- a product ------------------------------------------------------------------------------------------------

    @property
    def base(self) -> RelativePath:
        return self.result

    @property
    def report(self) -> RelativePath:
        return self.receipt

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        parts = {"xpcs.result": self.result, "xpcs.receipt": self.receipt}
        return tuple(Dataset(name=name, path=path, role=Role.CACHE) for name, path in parts.items())

    # ----- where its inputs are at the site -------------------------------------------------------------------------

    @property
    def staged_qmap(self) -> RelativePath:
        """Beside the raw data, so that it goes with it."""
        return self.measurement.folder.beside(f"{self.measurement.folder.name}_{QMAP}") / (
            f"{self.qmap.digest}/{self.qmap.path.name}"
        )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What people and the index are shown of a correlation."""

    correlation: Correlation

    @property
    def folder(self) -> RelativePath:
        return self.correlation.folder / RESOURCES

    @property
    def metadata(self) -> RelativePath:
        return self.folder / METADATA

    @property
    def files(self) -> RelativePath:
        return self.correlation.folder / FILES

    # ----- a product ------------------------------------------------------------------------------------------------

    @property
    def base(self) -> RelativePath:
        return self.folder

    @property
    def report(self) -> RelativePath:
        return self.files

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        parts = {"xpcs.pictures": self.folder, "xpcs.files": self.files}
        return tuple(Dataset(name=name, path=path, role=Role.CACHE) for name, path in parts.items())
