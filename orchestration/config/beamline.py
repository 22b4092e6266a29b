"""What is particular to one beamline."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from orchestration.config.arrivals import Arrivals
from orchestration.config.base import EntryKey, Section
from orchestration.config.disclosure import Disclosure
from orchestration.errors import InvalidPath
from orchestration.paths import QUARANTINE, RelativePath


class CatalogueDefaults(Section):
    """What every record of this beamline says where the scan itself does not."""

    instrument: str = Field(default="", description="`instrumentId` of the catalogue; the beamline's usual number.")
    creation_location: str = Field(default="", description="Where the data was taken, for people.")
    owner_group: str = Field(default="", description="Group that owns a record whose proposal is not known.")
    access_groups: tuple[str, ...] = Field(default=(), description="Groups that may read every record.")
    owner: str = Field(default="", description="Owner of a record when the scan does not name one.")
    contact_email: str = Field(default="", description="Address for questions about a record.")


class Streaming(Section):
    """A program at a compute site that reconstructs while a scan is taken."""

    site: str = Field(description="Compute site where it runs.")
    program: tuple[str, ...] = Field(min_length=1, description="Its command, word by word; no shell reads it.")
    environment: Mapping[str, str] = Field(default_factory=dict, description="Its environment variables; no secrets.")
    directory: str = Field(description="Directory, as jobs see it, in which it writes.")


class Beamline(Section):
    """One beamline: its endpoints by name, and how acquisition programs name its files."""

    id: EntryKey = ""
    name: str = Field(default="", description="Name shown to people, such as `ALS 8.3.2`; the key if left out.")
    path_prefixes: tuple[str, ...] = Field(
        default=("/global",), description="What acquisition programs put before a path; dropped from incoming paths."
    )
    acquisition: str = Field(description="Endpoint on which scans are written.")
    server: str = Field(description="Endpoint of the beamline's own server, with all of its data.")
    raw: str = Field(description="Endpoint of the folder of raw data on that server.")
    scratch: str = Field(description="Endpoint of the folder of results on that server.")
    nersc: str | None = Field(default=None, description="Endpoint at NERSC to which raw data is copied.")
    nersc_results: str | None = Field(
        default=None, description="Endpoint at NERSC for results that were made there, beside those on the server."
    )
    archive: str | None = Field(default=None, description="Tape archive of its proposals, by name in `archives`.")
    sites: tuple[str, ...] = Field(default=("local",), description="Compute sites, the preferred one first.")
    streaming: Streaming | None = Field(default=None, description="What reconstructs while a scan is taken.")
    arrivals: Arrivals | None = Field(default=None, description="When data is expected, so that its absence is told.")
    catalogue: CatalogueDefaults = Field(default_factory=CatalogueDefaults)
    disclosure: Disclosure = Field(default_factory=Disclosure, description="Embargo, and who may be told of data.")

    @field_validator("path_prefixes")
    @classmethod
    def _prefixes_are_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not prefix.strip("/") or not prefix.startswith("/") or ".." in prefix.split("/"):
                raise ValueError(f"`{prefix}` must be an absolute path of at least one folder")
        return value

    def known_as(self, key: str) -> Beamline:
        return self.model_copy(update={"id": key, "name": self.name or key})

    def relative(self, file_path: str) -> RelativePath:
        """``/global/raw/p/f.h5`` as ``raw/p/f.h5``, below the acquisition and the server endpoint alike.

        A path that is already relative is taken as it is.

        Raises:
            InvalidPath: for another absolute path, for what cannot be carried (``..``, an empty path, ...), and for
                what is in quarantine.
        """
        path = self._relative(file_path)
        if path.text.split("/")[0] == QUARANTINE:
            raise InvalidPath(
                f"{file_path!r} is in quarantine, to be deleted",
                where=f"beamline {self.id}",
                next_step="bring it back with `beamline retention restore`, then give the path that it has then",
            )
        return path

    def _relative(self, file_path: str) -> RelativePath:
        if not file_path.startswith("/"):
            return RelativePath.parse(file_path)
        parts = [part for part in file_path.split("/") if part]
        for prefix in self.path_prefixes:
            head = [part for part in prefix.split("/") if part]
            if parts[: len(head)] == head:
                return RelativePath("/".join(parts[len(head) :]))
        raise InvalidPath(
            f"{file_path!r} does not begin with " + " or ".join(self.path_prefixes),
            where=f"beamline {self.id}",
            next_step="give the path as acquisition writes it, or relative to the endpoint's root",
        )

    def written(self, path: RelativePath) -> str:
        """The one spelling of a path that `relative` reads: as acquisition writes it."""
        prefix = next((each.rstrip("/") for each in self.path_prefixes), "")
        return f"{prefix}/{path}" if prefix else path.text
