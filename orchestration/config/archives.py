"""Tape archives: where bundles go, by which jobs, and how they are made."""

from __future__ import annotations

import posixpath
import re
from typing import Literal

from pydantic import ByteSize, Field, PositiveInt, field_validator, model_validator

from orchestration.config.base import Days, EntryKey, Section
from orchestration.config.endpoint import Endpoint
from orchestration.errors import InvalidInput
from orchestration.paths import RelativePath
from orchestration.policy import Zone

HTAR_LIMIT = 8**12 - 1
"""Bytes of the largest member that htar takes, which calls it 68 GB."""


class ArchiveEndpoint(Section):
    """HPSS at NERSC, for what one endpoint there has. Known to rules and to the ledger as an endpoint of this name."""

    name: EntryKey = ""
    kind: Literal["hpss"] = Field(description="NERSC's HPSS, by `hsi` and `htar` in jobs of the queue `xfer`.")
    site: str = Field(description="Compute site of kind `nersc` whose jobs store and fetch.")
    source: str = Field(description="Endpoint, seen by those jobs, of which copies are archived.")
    source_folder: str = Field(
        default="", description="Folder of it in which the proposals are, such as `raw`; its root if left out."
    )
    root: str = Field(description="Absolute path in HPSS, below which each proposal has a folder.")
    uri: str = Field(default="archive.nersc.gov", description="Host that serves it.")
    log_folder: str = Field(description="Folder, as jobs see it, for plans, lists of members and logs.")
    bundle_limit: ByteSize = Field(default=ByteSize(2 * 10**12), description="Most bytes in one bundle, such as `2TB`.")
    member_limit: ByteSize = Field(
        default=ByteSize(65 * 10**9), description="Larger files are stored by themselves; htar takes none over 68 GB."
    )
    bundle_files: PositiveInt = Field(default=20_000, le=100_000, description="Most files in one bundle.")
    read_again_days: Days = Field(
        default=180.0,
        description="A copy here that was last read back longer ago is read again before it lets another one go; 0: "
        "always.",
    )

    @field_validator("root", "log_folder")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not re.fullmatch(r"/[A-Za-z0-9_./@+=,-]+", value) or ".." in value.split("/"):
            raise ValueError("must be an absolute path of letters, digits and _ . / @ + = , - without `..`")
        return "/" + posixpath.normpath(value).strip("/")

    @field_validator("source_folder")
    @classmethod
    def _is_relative(cls, value: str) -> str:
        return RelativePath.parse(value).text if value.strip("/") else ""

    @model_validator(mode="after")
    def _can_be_made(self) -> ArchiveEndpoint:
        if self.member_limit > HTAR_LIMIT:
            raise ValueError(f"`member_limit` is over the {HTAR_LIMIT} bytes that htar takes")
        return self

    def known_as(self, key: str) -> ArchiveEndpoint:
        return self.model_copy(update={"name": key})

    @property
    def endpoint(self) -> Endpoint:
        """What rules of retention, and copies in the ledger, know it as."""
        return Endpoint(root_path=self.root, uri=self.uri, zone=Zone.EXTERNAL).known_as(self.name)

    def project(self, path: RelativePath) -> str:
        """Of a path at the source, what is below the folder of proposals: ``<proposal>`` or ``<proposal>/...``.

        Raises:
            InvalidInput: if it is not below that folder.
        """
        head = f"{self.source_folder}/" if self.source_folder else ""
        if not path.text.startswith(head) or path.text == head:
            raise InvalidInput(
                f"{path} is not below {self.source_folder}, of which {self.name} has an archive",
                where=f"archives.{self.name}.source_folder",
                next_step=f"give a path that begins with {head}",
            )
        return path.text[len(head) :]

    def at_source(self, member: str) -> RelativePath:
        """The path at the source of a member of a bundle, by its name."""
        return RelativePath(f"{self.source_folder}/{member}" if self.source_folder else member)
