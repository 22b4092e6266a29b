"""What one XPCS run is asked to do: which data, with which qmap, where, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestration.config import Settings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi.options import Options
from orchestration.ledger.operation import canonical
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath
from orchestration.science.xpcs.listing import may_be_raw

if TYPE_CHECKING:
    from orchestration.globus.publishing import Reprocessing

_LONGEST_QMAP = 120
"""Characters of a qmap's name in that of a folder."""

RAW_ENDINGS = (".bin", ".bin.000", ".imm", ".h5", ".hdf", ".hdf5", ".nxs")


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One dataset to be correlated. Paths are below the deployment's endpoints of raw data and of qmaps."""

    deployment: XpcsDeployment
    raw: RelativePath
    """The raw file, the first of several, or the folder of the dataset."""
    qmap: RelativePath
    options: Options = field(default_factory=Options)
    experiment: str = ""
    """As people call it; found in the path if empty."""
    cycle: str = ""
    """Of the accelerator, such as ``2026-1``; found in the path if empty."""
    suffix: str = ""
    """Of the name of the result, to tell it from others of the same data."""
    request: str = ""
    """Tells a correlation that is asked for again, with the same parameters, from the first."""
    apart: str = ""
    """Name of the raw file, if its folder has others, by which their results are told apart."""
    export_controlled: bool = False
    reprocessing: Reprocessing | None = None

    @classmethod
    def parse(cls, settings: Settings, given: Mapping[str, Json], options: Options) -> Payload:
        """From the parameters of a flow: paths as users at the source write them.

        Raises:
            UnknownName: if there is no such deployment.
            InvalidPath: if a path is not at the source.
        """
        deployment = settings.xpcs.deployment(str(given.get("deployment") or ""))
        return cls(
            deployment=deployment,
            raw=deployment.to_relative(str(given["raw"])),
            qmap=deployment.qmap_to_relative(str(given["qmap"])),
            options=options,
            experiment=str(given.get("experiment") or ""),
            cycle=str(given.get("cycle") or ""),
            suffix=_suffix(str(given.get("suffix") or "")),
            request=str(given.get("request") or ""),
            export_controlled=bool(given.get("is_export_control")),
        )

    def again(self, reprocessing: Reprocessing) -> Payload:
        """The same, known as a reprocessing of what was published."""
        return replace(self, reprocessing=reprocessing)

    def flagged(self, scan: Scan) -> Payload:
        """The same, under export control if the ledger has its scan so: a flag outlives the run that was told of it."""
        return replace(self, export_controlled=scan.export_controlled)

    def unpublished(self) -> Payload:
        """The same, and nobody is told."""
        return replace(self, options=self.options.model_copy(update={"skip_publish": True}))

    def among(self, names: Iterable[str]) -> Payload:
        """The same, told from other measurements whose files have these names, in the same folder."""
        several = sum(map(may_be_raw, names)) > 1
        return replace(self, apart=self.raw_name if several else "")

    def named(self, raw: str) -> Payload:
        """The same, by the raw file that was found in its folder: however it was asked for, it is told alike."""
        return replace(self, raw=self.folder / raw) if raw.lower().endswith(RAW_ENDINGS) else self

    @property
    def folder(self) -> RelativePath:
        """Of the dataset.

        Raises:
            InvalidInput: if the raw file lies in no folder: there a dataset could not be told from another.
        """
        if not self.raw.name.lower().endswith(RAW_ENDINGS):
            return self.raw
        if self.raw.parent is None:
            raise InvalidInput(
                f"{self.raw} lies in no folder of its own",
                where=f"endpoint {self.deployment.source}",
                next_step="put each dataset into a folder, with its metadata file",
            )
        return self.raw.parent

    @property
    def raw_name(self) -> str:
        """Empty if the folder was named: then it has to be found there."""
        return "" if self.folder == self.raw else self.raw.name

    @property
    def parent(self) -> str:
        """The folder with this dataset and its like."""
        return "" if self.folder.parent is None else self.folder.parent.text

    @property
    def dataset(self) -> str:
        return self.folder.name

    @property
    def result_folder(self) -> RelativePath:
        """Where everything that is made lies, below each endpoint that has it; other payloads have other folders."""
        chosen = [self.apart, self.qmap.text, self.deployment.site, self.options.science, self.suffix, self.request]
        digest = hashlib.sha256(canonical(chosen).encode()).hexdigest()[:8]
        return self.folder / f"{self.qmap.stem[:_LONGEST_QMAP]}_{digest}"

    @property
    def found_cycle(self) -> str:
        return self.cycle or self.deployment.cycle(self.raw.text)

    @property
    def found_experiment(self) -> str:
        return self.experiment or self.experiment_folder

    @property
    def experiment_folder(self) -> str:
        """The folder below that of the cycle, else the first one."""
        parts, cycle = self.folder.text.split("/"), self.deployment.cycle(self.raw.text)
        after = parts[parts.index(cycle) + 1 :] if cycle in parts else parts
        return after[0] if len(after) > 1 else ""

    def document(self) -> Document:
        """For people."""
        return {
            "deployment": self.deployment.name,
            "raw": self.deployment.to_posix(self.raw),
            "qmap": self.deployment.qmap_to_posix(self.qmap),
            "experiment": self.found_experiment,
            "cycle": self.found_cycle,
            "suffix": self.suffix,
            "options": self.options.chosen,
        }


def _suffix(text: str) -> str:
    """As part of a file's name, without the dash that people put before it."""
    suffix = text.strip().lstrip("_")
    if "/" in suffix or suffix in {".", ".."}:
        raise InvalidInput(f"the suffix {text!r} cannot be part of a file's name", where="suffix")
    return suffix
