"""The outside services that flows act on, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orchestration import config
from orchestration.conditions import SiteCondition, SiteState, Tells
from orchestration.config import (
    Beamline,
    ComputeSite,
    Endpoint,
    GlobusComputeSite,
    IriSite,
    LocalSite,
    NerscSite,
    RemoteSite,
    Settings,
    SitingPolicy,
    state_directory,
)
from orchestration.errors import ConfigError, UnknownName
from orchestration.flows.requests import request_of
from orchestration.flows.runs import PrefectRun, PrefectSchedule
from orchestration.flows.server import insist
from orchestration.globus.auth import TransferClients
from orchestration.globus.delete import GlobusDelete
from orchestration.globus.fence import Fence
from orchestration.globus.files import GlobusFiles
from orchestration.globus.rename import GlobusRename
from orchestration.globus.search import GlobusPublish, GlobusWithdraw
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_reader import GlobusSearch
from orchestration.globus.transfer import GlobusTransfer
from orchestration.jobs import JobSpec
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Request, Service
from orchestration.local.delete import LocalDelete
from orchestration.local.files import folders as local_folders
from orchestration.local.files import inspect as inspect_directory
from orchestration.local.files import is_empty as is_empty_directory
from orchestration.local.files import listing as list_directory
from orchestration.local.jobs import LocalJobs
from orchestration.local.rename import LocalRename
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.scicat import ScicatIngest, ScicatPlaces
from orchestration.transfers import FileFacts, Listed

if TYPE_CHECKING:
    from orchestration.nersc.archive import HpssArchive


@runtime_checkable
class Closes(Protocol):
    """A service with connections of its own."""

    def close(self) -> None: ...


class Services:
    """By attribute in the flows; by the name that the ledger files them under when they are cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, Service[JobSpec]] = {}
        self._archives: dict[str, HpssArchive] = {}

    def close(self) -> None:
        """Let go of the connections that were made."""
        if "catalogue" in vars(self):
            self.catalogue.close()
        for service in self._jobs.values():
            if isinstance(service, Closes):
                service.close()

    @cached_property
    def globus_transfer(self) -> GlobusTransfer:
        return GlobusTransfer(self._clients, self._settings.transfer)

    @cached_property
    def globus_delete(self) -> GlobusDelete:
        return GlobusDelete(self._clients, self._settings.transfer)

    @cached_property
    def globus_rename(self) -> GlobusRename:
        return GlobusRename(self._clients)

    @cached_property
    def globus_publish(self) -> GlobusPublish:
        return GlobusPublish(self._search_clients)

    @cached_property
    def globus_withdraw(self) -> GlobusWithdraw:
        return GlobusWithdraw(self._search_clients)

    @property
    def search(self) -> GlobusSearch:
        """Reads the search indexes."""
        return GlobusSearch(self._search_clients)

    @cached_property
    def local_transfer(self) -> LocalTransfer:
        return LocalTransfer(state=state_directory() / "work")

    @cached_property
    def local_delete(self) -> LocalDelete:
        return LocalDelete(state=state_directory() / "work")

    @cached_property
    def local_rename(self) -> LocalRename:
        return LocalRename()

    @cached_property
    def local_jobs(self) -> LocalJobs:
        return LocalJobs(folder=state_directory() / "jobs", place=self._settings.here)

    @cached_property
    def catalogue(self) -> ScicatIngest:
        return ScicatIngest.connect(self._settings.scicat, config.credentials())

    @cached_property
    def places(self) -> ScicatPlaces:
        """Where else data is, in the catalogue."""
        return ScicatPlaces(self.catalogue.client)

    @cached_property
    def prefect_run(self) -> PrefectRun:
        return PrefectRun()

    @cached_property
    def prefect_schedule(self) -> PrefectSchedule:
        return PrefectSchedule()

    @cached_property
    def _clients(self) -> TransferClients:
        return TransferClients(config.credentials())

    @cached_property
    def _search_clients(self) -> SearchClients:
        return SearchClients(config.credentials())

    def look(self, endpoint: Endpoint, path: RelativePath, *, patience: float | None = None) -> FileFacts | None:
        """What stands there now, as its own server sees it; None if nothing does.

        A server that does not answer is asked again for `patience` seconds, by default as long as the shortest
        transfer may take.
        """
        seconds = self._settings.transfer.min_seconds if patience is None else patience
        return insist(lambda: self._look(endpoint, path), seconds=seconds)

    def archive(self, name: str) -> HpssArchive:
        """The tape archive of that name."""
        from orchestration.nersc.archive import HpssArchive

        archive = self._settings.archive(name)
        site = self._settings.site(archive.site)
        if not isinstance(site, NerscSite):
            raise ConfigError(f"{archive.site} has no hsi and htar", where=f"archives.{name}.site")
        if name not in self._archives:
            self._archives[name] = HpssArchive(archive=archive, site=site, credentials=config.credentials())
        return self._archives[name]

    def _look(self, endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
        if endpoint.name in self._settings.archives:
            return self.archive(endpoint.name).inspect(path)
        if endpoint.uuid is not None:
            return GlobusFiles(self._clients).inspect(endpoint, path)
        return inspect_directory(endpoint, path)

    def look_at(self, endpoint: Endpoint, paths: Collection[RelativePath]) -> Mapping[RelativePath, FileFacts]:
        """What stands at each of many paths, where something does; a folder is listed once for all its files."""
        if endpoint.uuid is None:
            local = {path: self.look(endpoint, path) for path in paths}
            return {path: facts for path, facts in local.items() if facts is not None}
        files = GlobusFiles(self._clients)
        found = insist(lambda: files.entries(endpoint, paths), seconds=self._settings.transfer.min_seconds)
        facts = {
            path: self.look(endpoint, path) if entry.is_directory else entry.facts for path, entry in found.items()
        }
        return {path: each for path, each in facts.items() if each is not None}

    def folders(self, endpoint: Endpoint, path: RelativePath) -> tuple[str, ...] | None:
        """The names of the folders in a folder; None if there is no such folder. Asked as `look` is."""
        if endpoint.uuid is not None:
            files = GlobusFiles(self._clients)
            return insist(lambda: files.folders(endpoint, path), seconds=self._settings.transfer.min_seconds)
        return local_folders(endpoint, path)

    def listing(self, endpoint: Endpoint, path: RelativePath | None, *, patience: float) -> tuple[Listed, ...] | None:
        """What lies directly in a folder (None: the root); None if there is no such folder. Asked as `look` is."""
        if endpoint.uuid is not None:
            return insist(lambda: GlobusFiles(self._clients).listing(endpoint, path), seconds=patience)
        return list_directory(endpoint, path)

    def is_empty(self, endpoint: Endpoint, *, patience: float) -> bool:
        """Whether nothing at all lies at its root. Asked as `look` is; an archive knows what it has lost."""
        if endpoint.name in self._settings.archives:
            return False
        if endpoint.uuid is not None:
            return insist(lambda: GlobusFiles(self._clients).is_empty(endpoint), seconds=patience)
        return is_empty_directory(endpoint)

    def jobs(self, site: ComputeSite) -> Service[JobSpec]:
        """What runs jobs at a site; the same one each time."""
        if site.name not in self._jobs:
            self._jobs[site.name] = self._connect(site)
        return self._jobs[site.name]

    def _connect(self, site: ComputeSite) -> Service[JobSpec]:
        # The clients of the facilities take long to import: only runs that use one pay for it.
        match site:
            case LocalSite():
                return replace(
                    self.local_jobs,
                    place=site.place,
                    slots=site.cores or self.local_jobs.slots,
                    memory=site.memory,
                )
            case NerscSite():
                from orchestration.nersc.jobs import NerscJobs
                from orchestration.nersc.memory import Patience

                return NerscJobs(site, config.credentials(), patience=Patience(settle=site.settle_seconds))
            case GlobusComputeSite():
                from orchestration.globus.compute import GlobusCompute

                return GlobusCompute(site, config.credentials())
            case IriSite():
                from orchestration.iri.jobs import IriJobs

                return IriJobs(site)

    @property
    def siting(self) -> SitingPolicy:
        return self._settings.siting

    def poll_seconds(self, name: str) -> float:
        """The shortest time between two questions to a service of that name; 0 where there is no such site."""
        site = self._remote(name)
        return 0.0 if site is None else site.poll_seconds

    def settle_seconds(self, name: str) -> float:
        """For how long a service of that name may not know yet what was submitted; 0 where there is no such site."""
        site = self._remote(name)
        return 0.0 if site is None else site.settle_seconds

    def _remote(self, name: str) -> RemoteSite | None:
        site = self._settings.compute_sites.get(name.partition("@")[2])
        return site if isinstance(site, RemoteSite) else None

    def beamline(self, name: str) -> Beamline | None:
        """None if the settings have no such beamline (any more)."""
        return self._settings.beamlines.get(name)

    def condition(self, name: str) -> SiteCondition:
        """How the site of a service of that name says that it is; UP for services without a site.

        Raises:
            OrchestrationError: if it does not say.
        """
        _, found, site = name.partition("@")
        return self.site_condition(self._settings.site(site)) if found else SiteCondition(state=SiteState.UP)

    def site_condition(self, site: ComputeSite) -> SiteCondition:
        """How a site says that it is. A site that this service is not set up for is down for it.

        Raises:
            OrchestrationError: if it does not say.
        """
        if isinstance(site, LocalSite):
            return SiteCondition(state=SiteState.UP)
        try:
            service = self.jobs(site)
            teller = getattr(service, "status", service)
            return teller.condition() if isinstance(teller, Tells) else SiteCondition(state=SiteState.UNKNOWN)
        except ConfigError as error:
            return SiteCondition(state=SiteState.DOWN, note=error.what)

    def request_of(self, record: OperationRecord) -> Request | None:
        """What was asked of the service of an operation; None for services that never need it back."""
        return request_of(record, self._settings)

    def fence(self, site: RemoteSite, endpoint: Endpoint) -> Fence:
        """What keeps jobs of a site from beginning; `endpoint` is on a collection with their folders."""
        return Fence(clients=self._clients, site=site, endpoint=endpoint)

    def named(self, name: str) -> Service[Any]:
        """The service that the ledger files under `name`: ``globus.transfer``, ``nersc.jobs@<site>``, ..."""
        if "@" in name:
            return self.jobs(self._settings.site(name.partition("@")[2]))
        known: dict[str, str] = {
            "globus.transfer": "globus_transfer",
            "globus.delete": "globus_delete",
            "globus.rename": "globus_rename",
            "globus.publish": "globus_publish",
            "globus.withdraw": "globus_withdraw",
            "local.transfer": "local_transfer",
            "local.delete": "local_delete",
            "local.rename": "local_rename",
            "local.jobs": "local_jobs",
            "scicat.ingest": "catalogue",
            "scicat.places": "places",
            "prefect.run": "prefect_run",
            "prefect.schedule": "prefect_schedule",
        }
        if name not in known:
            raise UnknownName(f"this version knows no service {name!r}")
        service: Service[Any] = getattr(self, known[name])
        return service
