"""The settings tree: config.yml as one typed, frozen value."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from orchestration.config.archives import ArchiveEndpoint
from orchestration.config.base import Section, unknown
from orchestration.config.beamline import Beamline
from orchestration.config.endpoint import Endpoint
from orchestration.config.notify import NotifySettings
from orchestration.config.policies import (
    LedgerSettings,
    RetentionRule,
    ScicatSettings,
    SitingPolicy,
    TransferPolicy,
    WaitingPolicy,
)
from orchestration.config.search import SearchSettings
from orchestration.config.sites import ComputeSite, owned_here
from orchestration.config.variables import PrefectSettings
from orchestration.config.watching import WatchPolicy
from orchestration.config.xpcs import XpcsSettings
from orchestration.policy import BeamlineRules, Place, Zone, proposal


class GlobusApp(Section):
    """A confidential client; absent here while its variables are not set, and then demanded when it is used."""

    client_id: str | None = None
    client_secret: SecretStr | None = None


class GlobusSettings(Section):
    globus_endpoints: Mapping[str, Endpoint] = Field(default_factory=dict, description="All endpoints by name.")
    globus_apps: Mapping[str, GlobusApp] = Field(default_factory=dict, description="Globus clients by name.")

    @field_validator("globus_endpoints", mode="after")
    @classmethod
    def _named(cls, value: Mapping[str, Endpoint]) -> Mapping[str, Endpoint]:
        named = {key: endpoint.known_as(key) for key, endpoint in value.items()}
        return {key: endpoint.among(named.values()) for key, endpoint in named.items()}


class Images(Section):
    """Container images of reconstruction, with the tag or digest to run."""

    recon_image: str | None = None
    multires_image: str | None = None


class Settings(Section):
    """Everything that config.yml says. Ask it by name: an unknown name is an error that lists the near ones."""

    globus: GlobusSettings = Field(default_factory=GlobusSettings)
    beamlines: Mapping[str, Beamline] = Field(default_factory=dict, description="Beamlines by id, such as `bl832`.")
    archives: Mapping[str, ArchiveEndpoint] = Field(
        default_factory=dict, description="Tape archives by name; rules of retention know them as endpoints."
    )
    compute_sites: Mapping[str, ComputeSite] = Field(default_factory=dict, description="Where jobs can run, by name.")
    retention: Mapping[str, RetentionRule] = Field(
        default_factory=dict, description="By endpoint: when copies may be deleted. No rule: never."
    )
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    scicat: ScicatSettings = Field(default_factory=ScicatSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    xpcs: XpcsSettings = Field(default_factory=XpcsSettings)
    transfer: TransferPolicy = Field(default_factory=TransferPolicy)
    waiting: WaitingPolicy = Field(default_factory=WaitingPolicy)
    siting: SitingPolicy = Field(default_factory=SitingPolicy)
    watch: WatchPolicy = Field(default_factory=WatchPolicy)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    prefect: PrefectSettings = Field(default_factory=PrefectSettings)
    ghcr_images832: Images = Field(default_factory=Images)
    harbor_images832: Images = Field(default_factory=Images)

    @field_validator("beamlines", mode="after")
    @classmethod
    def _beamlines_named(cls, value: Mapping[str, Beamline]) -> Mapping[str, Beamline]:
        return {key: beamline.known_as(key) for key, beamline in value.items()}

    @field_validator("compute_sites", mode="after")
    @classmethod
    def _sites_named(cls, value: Mapping[str, ComputeSite], info: ValidationInfo) -> Mapping[str, ComputeSite]:
        endpoints = info.data["globus"].globus_endpoints.values() if "globus" in info.data else ()
        archived = [(each.site, each.source) for each in info.data.get("archives", {}).values()]
        return {
            key: site.known_as(key).seeing(endpoints, also={source for at, source in archived if at == key})
            for key, site in value.items()
        }

    @field_validator("archives", mode="after")
    @classmethod
    def _archives_named(cls, value: Mapping[str, ArchiveEndpoint]) -> Mapping[str, ArchiveEndpoint]:
        return {key: archive.known_as(key) for key, archive in value.items()}

    @field_validator("retention", mode="after")
    @classmethod
    def _rules_named(cls, value: Mapping[str, RetentionRule]) -> Mapping[str, RetentionRule]:
        return {key: rule.known_as(key) for key, rule in value.items()}

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        return self.globus.globus_endpoints

    @property
    def rules(self) -> Mapping[str, BeamlineRules]:
        """What each beamline demands of what is done with its data."""
        return {
            key: beamline.disclosure.rules(
                self.endpoint(beamline.acquisition).owner_folder, keeps={beamline.acquisition, beamline.server}
            )
            for key, beamline in self.beamlines.items()
        }

    def proposal(self, beamline: str, path: str, facts: Mapping[str, object]) -> str | None:
        """Whose a scan is, by its path and what is known of it; None if that is not known."""
        return proposal(facts, path, self.rules.get(beamline, BeamlineRules()))

    @property
    def here(self) -> Place:
        """Where programs of this machine run that belong to no compute site."""
        return Place("this machine", Zone.EXTERNAL, owned=owned_here(self.endpoints.values()))

    @property
    def places(self) -> Mapping[str, Endpoint]:
        """All that copies can lie at: endpoints, and archives by the names that they have as such."""
        return {**{name: archive.endpoint for name, archive in self.archives.items()}, **self.endpoints}

    def endpoint(self, name: str) -> Endpoint:
        found = self.endpoints.get(name) or (self.archives[name].endpoint if name in self.archives else None)
        if found is None:
            raise unknown("endpoint", name, self.places, section="globus.globus_endpoints")
        return found

    def archive(self, name: str) -> ArchiveEndpoint:
        found = self.archives.get(name)
        if found is None:
            raise unknown("archive", name, self.archives, section="archives")
        return found

    def beamline(self, name: str) -> Beamline:
        found = self.beamlines.get(name)
        if found is None:
            raise unknown("beamline", name, self.beamlines, section="beamlines")
        return found

    def site(self, name: str) -> ComputeSite:
        found = self.compute_sites.get(name)
        if found is None:
            raise unknown("compute site", name, self.compute_sites, section="compute_sites")
        return found

    def sets_aside(self, endpoint: str) -> bool:
        """Whether copies of some dataset lie in quarantine there before they are deleted.

        Raises:
            UnknownName: if there is no such endpoint.
        """
        found = self.endpoint(endpoint)
        rule = self.retention.get(found.name)
        if rule is None or not found.can_rename:
            return False
        return rule.grace_days > 0 or any((each.grace_days or 0) > 0 for each in rule.datasets.values())

    def retention_rule(self, endpoint: str, dataset: str) -> RetentionRule | None:
        """The rule for copies of that dataset on that endpoint; None means that they are never deleted.

        Raises:
            UnknownName: if there is no such endpoint.
        """
        rule = self.retention.get(self.endpoint(endpoint).name)
        return None if rule is None else rule.of(dataset)
