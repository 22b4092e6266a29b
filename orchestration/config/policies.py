"""Settings of how the service behaves: retention, the ledger, transfers, the catalogue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from orchestration.config.base import Days, EntryKey, Section
from orchestration.errors import NotSetUp


class CopyRequirement(Section):
    """The proof that a deletion needs."""

    any_of: tuple[str, ...] = Field(min_length=1, description="Endpoints where another copy counts.")
    min_copies: PositiveInt = Field(default=1, description="How many of them must have a verified copy.")

    @model_validator(mode="after")
    def _can_be_met(self) -> CopyRequirement:
        if len(set(self.any_of)) != len(self.any_of):
            raise ValueError("names an endpoint twice")
        if self.min_copies > len(self.any_of):
            raise ValueError(f"asks for {self.min_copies} copies at {len(self.any_of)} endpoints")
        return self


class VariableKey(Section):
    """A key of a Prefect Variable, with which operators change a number without a release."""

    variable: str = Field(description="Name of the Prefect Variable, such as `pruning-config`.")
    key: str = Field(description="Key in it, such as `delete_data832_files_after_days`.")


class DatasetRule(Section):
    """What is different for some datasets of an endpoint. What is left out is as the endpoint's rule says."""

    after_days: Days | None = Field(default=None, description="Age at which the copy may go.")
    requires: CopyRequirement | None = Field(default=None, description="Other verified copies that are needed.")
    grace_days: Days | None = Field(default=None, description="How long it lies in quarantine first.")
    override: VariableKey | None = Field(default=None, description="Where operators change `after_days`.")
    catalogued: bool | None = Field(default=None, description="Whether the catalogue must have the scan.")
    recreatable: bool | None = Field(default=None, description="Whether it may go since it can be computed again.")
    evidence_days: Days | None = Field(default=None, description="Age from which checksums are old.")
    warn_days: float | None = Field(
        default=None, ge=1.0, le=36_500.0, description="Days that its owner has after a warning."
    )


class RetentionRule(Section):
    """When a copy on an endpoint may be deleted, and under which proof."""

    endpoint: EntryKey = ""
    after_days: Days = Field(description="Age at which the copy may go.")
    requires: CopyRequirement = Field(description="Other verified copies, looked for at the moment of deletion.")
    grace_days: Days = Field(
        default=0.0, description="How long it lies in quarantine before it is deleted; 0: it is deleted at once."
    )
    override: VariableKey | None = Field(default=None, description="Where operators change `after_days`.")
    catalogued: bool = Field(
        default=False, description="Whether the catalogue must have the scan, asked at that moment."
    )
    recreatable: bool = Field(
        default=False,
        description="Whether a result may go without a copy: its receipt is known, and what it was made of has copies.",
    )
    evidence_days: Days | None = Field(
        default=None,
        description="Checksums of another copy that are older are computed again before it counts; 0: always.",
    )
    warn_days: float | None = Field(
        default=None,
        ge=1.0,
        le=36_500.0,
        description="Its owner is written to so many days before, and it stays for so long after that was sent.",
    )
    datasets: Mapping[str, DatasetRule] = Field(
        default_factory=dict, description="By dataset (`raw`, `rec.*`; the first that fits): what is different for it."
    )

    @field_validator("datasets", mode="after")
    @classmethod
    def _own_age_own_override(cls, value: Mapping[str, DatasetRule]) -> Mapping[str, DatasetRule]:
        for pattern, rule in value.items():
            if rule.override is not None and rule.after_days is None:
                raise ValueError(f"`{pattern}` has an `override` and no `after_days`, which is its first value")
        return value

    def known_as(self, key: str) -> RetentionRule:
        return self.model_copy(update={"endpoint": key})

    def of(self, dataset: str) -> RetentionRule:
        """The rule for one dataset. An age of its own is not changed by the override of the others."""
        for pattern, rule in self.datasets.items():
            if fnmatchcase(dataset, pattern):
                changes = {name: value for name, value in rule if value is not None}
                if rule.after_days is not None:
                    changes["override"] = rule.override
                return self.model_copy(update=changes)
        return self


STATE_VARIABLE = "BEAMLINE_STATE"


def state_directory() -> Path:
    """Where this service keeps what it must remember: $BEAMLINE_STATE, else a folder below your home."""
    if named := os.environ.get(STATE_VARIABLE):
        return Path(named).expanduser().absolute()
    return Path.home() / ".local" / "state" / "beamline"


def _default_ledger() -> str:
    return f"sqlite:///{state_directory() / 'ledger.sqlite'}"


class LedgerSettings(Section):
    url: str = Field(
        default_factory=_default_ledger,
        description="SQLAlchemy URL (`sqlite:///...` or `postgresql+psycopg://...`); `~/` after `sqlite:///` is yours.",
    )
    lease_seconds: PositiveFloat = Field(
        default=60.0, description="How long a run that has died keeps others from taking its operations over."
    )

    @field_validator("url")
    @classmethod
    def _home_is_expanded(cls, value: str) -> str:
        scheme, found, path = value.partition(":///")
        if "://" not in value:
            raise ValueError("must be a database URL such as `sqlite:////var/lib/beamline/ledger.sqlite`")
        if found and scheme.startswith("sqlite") and path.startswith("~"):
            return f"{scheme}:///{Path(path).expanduser()}"
        return value


class ScicatSettings(Section):
    api_url: str | None = Field(
        default=None, description="Base of the catalogue's API, `https://.../api/v3`; ${SCICAT_API_URL} if left out."
    )
    ui_url: str | None = Field(default=None, description="Base of the catalogue's pages, for links to records.")
    jobs_api_url: str | None = Field(default=None, description="Ingestion service of the existing system; not called.")
    pid_prefix: str = Field(default="", description="Prefix of dataset PIDs, where the catalogue wants one.")
    service_group: str = Field(default="", description="Group of this service's account, owner of last resort.")

    @field_validator("api_url", "ui_url", "jobs_api_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with `https://` (or `http://`)")
        return value.rstrip("/") if value else value

    def require_api_url(self) -> str:
        """The address of the catalogue.

        Raises:
            NotSetUp: if none is set.
        """
        if self.api_url is None:
            raise NotSetUp(
                "no catalogue is set",
                where="scicat.api_url",
                next_step="set SCICAT_API_URL in the environment or in .env, or `scicat.api_url` in config.yml",
            )
        return self.api_url


class TransferPolicy(Section):
    """How long a transfer may take before it is cancelled and reported."""

    min_seconds: PositiveFloat = Field(default=600.0, description="No transfer gets less than this.")
    floor_mb_per_s: PositiveFloat = Field(
        default=20.0, description="Slowest rate still thought healthy, in 10^6 bytes per second."
    )
    fault_patience_seconds: PositiveFloat = Field(
        default=900.0, description="How long a transfer may report faults without moving a byte."
    )
    batch_files: PositiveInt = Field(
        default=1000, le=10_000, description="Most new files that are carried in one transfer."
    )
    batch_bytes: PositiveInt = Field(
        default=100_000_000_000, description="So many bytes of new files are not made to wait for more."
    )
    batch_seconds: NonNegativeFloat = Field(
        default=5.0, le=600.0, description="How long a new file waits for others to go with it."
    )

    def deadline_seconds(self, size_bytes: int) -> float:
        """How long a transfer of that many bytes may take, from its submission."""
        return max(self.min_seconds, size_bytes / (self.floor_mb_per_s * 1e6))


class WaitingPolicy(Section):
    """How runs wait for what goes on elsewhere."""

    inline_seconds: PositiveFloat = Field(
        default=300.0,
        description="How long a run keeps its process while it waits; after that a watcher waits in its place.",
    )


class SitingPolicy(Section):
    """How a site is chosen for work that names none, and when work that has not begun is taken back from it."""

    preference_seconds: NonNegativeFloat = Field(
        default=600.0,
        description="How much sooner work must begin at a site to go there before one that is named earlier.",
    )
    recent_days: PositiveFloat = Field(default=1.0, description="Age up to which finished jobs tell of a queue.")
    recent_jobs: PositiveInt = Field(default=20, description="How many of them are looked at.")
    answer_seconds: PositiveFloat = Field(
        default=5.0, description="How long sites get to say how they are; one that does not is used last."
    )
    look_seconds: PositiveFloat = Field(
        default=20.0, description="How often the chosen site is looked at until the job has begun."
    )
    silence_seconds: PositiveFloat = Field(
        default=60.0, description="How long the chosen site may not answer before the work is taken back."
    )
