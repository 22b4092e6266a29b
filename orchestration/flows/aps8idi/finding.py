"""What there is to be correlated: folders and qmaps at the source of a deployment, and records that are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.config import Endpoint, SearchIndex, Settings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import ConfigError, InvalidInput, SourceMissing, UnknownName
from orchestration.flows.aps8idi.published import Original, original_of
from orchestration.flows.services import Services
from orchestration.globus.publishing import RecordState
from orchestration.globus.search_queries import MatchAny, Query
from orchestration.paths import RelativePath

_QMAP_ENDINGS = (".hdf", ".h5", ".hdf5")
_NO_QMAPS = ("_metadata", "_results")
"""How the names of other such files end."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a deployment takes its data from. Paths are as users say them, or relative to the root."""

    services: Services
    settings: Settings
    deployment: XpcsDeployment

    def cycles(self) -> Sequence[str]:
        """The names of the folders below the root that a cycle is in.

        Raises:
            ConfigError: if the root is that of a whole collection, which is in no folder.
        """
        endpoint, root = _from_above(self.settings.endpoint(self.deployment.source))
        return [name for name in self._listed(endpoint, root) if self.deployment.cycle(name)]

    def folders(self, folder: str) -> Sequence[str]:
        """The names of the folders in one: experiments of a cycle, datasets of an experiment.

        Raises:
            SourceMissing: if there is no such folder.
        """
        return self._listed(self.settings.endpoint(self.deployment.source), self.deployment.to_relative(folder))

    def qmaps(self, folder: str) -> Sequence[str]:
        """The HDF5 files in a folder that are neither metadata nor results, as users say their paths.

        Raises:
            SourceMissing: if there is no such folder.
        """
        path = self.deployment.qmap_to_relative(folder)
        endpoint = _seen_here(self.settings.endpoint(self.deployment.qmap_endpoint))
        facts = self.services.look(endpoint, path)
        if facts is None or not facts.is_directory:
            raise _no_folder(endpoint, path)
        found = [RelativePath(f"{path}/{name}") for name, _ in facts.manifest if "/" not in name]
        return [self.deployment.qmap_to_posix(each) for each in found if _may_be_qmap(each)]

    def _listed(self, endpoint: Endpoint, path: RelativePath) -> Sequence[str]:
        found = self.services.folders(_seen_here(endpoint), path)
        if found is None:
            raise _no_folder(endpoint, path)
        return found


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a deployment has published, and can be made again."""

    services: Services
    settings: Settings
    deployment: XpcsDeployment

    def one(self, subject: str) -> Original:
        """The record of a subject.

        Raises:
            UnknownName: if there is none.
            InvalidInput: if its result cannot be made again.
        """
        content = self.services.search.entry(self._index, subject=subject)
        if content is None:
            raise UnknownName(
                f"the index has no record of {subject!r}",
                where=self._index.place.name,
                next_step="give the subject of a record, such as the portal shows it, or look for it with --search",
            )
        return original_of(content)

    def every(self, words: str, *, experiment: str, cycle: str) -> Sequence[Original]:
        """The final records, but none of a reprocessing: its raw data is that of another.

        Raises:
            InvalidInput: if that would be all records there are.
            UnknownName: if there is none.
        """
        if not (words or experiment or cycle):
            raise InvalidInput(
                "every record of the index would be made again",
                where=self._index.place.name,
                next_step="give a subject, --search, --experiment or --cycle",
            )
        fields = {"status.state": RecordState.FINAL.value, **_facets(experiment=experiment, cycle=cycle)}
        query = Query(words=words, filters=tuple(MatchAny(field, (value,)) for field, value in fields.items()))
        found = [each.content for each in self.services.search.every(self._index, query)]
        originals = [original_of(content) for content in found if not _is_reprocessing(content)]
        if not originals:
            raise UnknownName(
                "no final record fits",
                where=self._index.place.name,
                next_step="ask for less, or wait until the results are published",
            )
        return sorted(originals, key=lambda each: (each.parent, each.title))

    @property
    def _index(self) -> SearchIndex:
        if self.deployment.index is None:
            raise ConfigError(
                f"deployment {self.deployment.name} has no index in which records could be",
                where=f"xpcs.deployments.{self.deployment.name}",
                next_step="give it an `index`, or name another deployment",
            )
        return self.settings.search.index(self.deployment.index)


def _facets(**given: str) -> Mapping[str, str]:
    return {f"project_metadata.{name}": value for name, value in given.items() if value}


def _is_reprocessing(content: Mapping[str, object]) -> bool:
    told = content.get("project_metadata")
    return isinstance(told, dict) and "reprocessing" in told


def _may_be_qmap(path: RelativePath) -> bool:
    return path.pure.suffix.lower() in _QMAP_ENDINGS and not path.stem.endswith(_NO_QMAPS)


def _seen_here(endpoint: Endpoint) -> Endpoint:
    """As a folder of this machine, if it is one: to list that takes no time."""
    here = endpoint.mount is not None and endpoint.mount.is_dir()
    return endpoint.model_copy(update={"uuid": None}) if here else endpoint


def _from_above(endpoint: Endpoint) -> tuple[Endpoint, RelativePath]:
    """The root of an endpoint as a folder of another: a path is always below a root."""
    seen = _seen_here(endpoint)
    if seen.uuid is None and seen.mount is not None:
        mount = seen.mount.resolve()
        return seen.model_copy(update={"mount": mount.parent}), RelativePath(mount.name)
    above, _, name = endpoint.root_path.rpartition("/")
    if not name:
        raise ConfigError(
            f"the cycles of {endpoint.name} cannot be listed: its root is that of its collection",
            where=f"globus.globus_endpoints.{endpoint.name}",
            next_step="mount it on this machine, and say so with `mount`; or name a cycle that you know",
        )
    return endpoint.model_copy(update={"root_path": above or "/", "mount": None}), RelativePath(name)


def _no_folder(endpoint: Endpoint, path: RelativePath) -> SourceMissing:
    return SourceMissing(f"there is no folder {path}", where=f"{endpoint.name}:{path}", next_step="check the path")
