"""Where data is computed: processes of this machine, and the batch systems of the facilities."""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import (
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from orchestration.config.base import EntryKey, Section
from orchestration.config.endpoint import Endpoint
from orchestration.paths import RelativePath
from orchestration.policy import OwnedTree, Place, Zone

ENDING_SECONDS = 60.0
"""What the runner of a job may take beyond the job's own time, to stop it and to check its outputs."""

_WALLTIME = re.compile(r"(\d{2}):(\d{2}):00")


class Site(Section):
    """What every kind of compute site has: where its inputs and its results are."""

    name: EntryKey = ""
    owned: Annotated[tuple[OwnedTree, ...], SkipJsonSchema(), Field(validation_alias="(of the endpoints)")] = ()
    """The folders of proposals that its jobs see, by what its endpoints say."""
    raw_endpoint: str = Field(description="Endpoint to which inputs are copied before a job.")
    scratch_endpoint: str = Field(description="Endpoint below which jobs write results.")
    zone: Zone = Field(default=Zone.EXTERNAL, description="`beamline`: export-controlled data may be computed here.")

    @property
    def place(self) -> Place:
        return Place(name=self.name, zone=self.zone, owned=self.owned)

    def known_as(self, key: str) -> Self:
        return self.model_copy(update={"name": key})


class LocalSite(Site):
    """Processes on this machine."""

    def seeing(self, endpoints: Collection[Endpoint], *, also: Collection[str] = ()) -> Self:
        """With the folders of proposals that jobs here see: those of all that is mounted."""
        return self.model_copy(update={"owned": owned_here(endpoints)})

    kind: Literal["local"] = Field(description="Jobs are processes of this machine.")
    python: str | None = Field(default=None, description="Interpreter for jobs; the one of the service if left out.")
    cores: PositiveInt | None = Field(
        default=None, description="Cores that all jobs together use, which they are kept to; all if left out."
    )
    memory: ByteSize | None = Field(
        default=None,
        description="Memory for all jobs together, such as `32GiB`; each process of a job is kept to the job's share.",
    )


class Container(Section):
    """The image in which jobs run."""

    engine: Literal["podman-hpc", "shifter", "apptainer"] = Field(description="What the site runs containers with.")
    image: str = Field(description="The image, by digest rather than by a tag that moves.")
    options: tuple[str, ...] = Field(default=(), description="Words for the engine, such as `--gpu`.")
    volumes: Mapping[str, str] = Field(
        default_factory=dict,
        description="Directories of the site as the container calls them: `/target: /source`.",
    )


def owned_here(endpoints: Collection[Endpoint]) -> tuple[OwnedTree, ...]:
    """The folders of proposals that programs of this machine see."""
    mounted = ((endpoint, endpoint.mount) for endpoint in endpoints if endpoint.mount is not None)
    trees = (endpoint.owned_below(os.path.realpath(mount)) for endpoint, mount in mounted if endpoint.owner_folder)
    return tuple(tree for tree in trees if tree is not None)


REPORT_SECONDS = 120.0
"""Given to each job beyond its own limit: to begin, and at the end to check its outputs and write its report."""


class Walltime(Section):
    """How long a job may take, by the size of its input."""

    minimum_seconds: PositiveFloat = Field(default=900.0, description="Even for the smallest scan.")
    seconds_per_gigabyte: PositiveFloat = Field(default=60.0, description="Added for each 10^9 bytes of the input.")
    maximum_seconds: PositiveFloat = Field(default=6 * 3600.0, description="What the queue allows at most.")

    def seconds(self, size: int) -> float:
        """For an input of `size` bytes: so that the queue has room for the report as well."""
        wanted = self.minimum_seconds + self.seconds_per_gigabyte * size / 1e9
        return min(wanted, max(self.maximum_seconds - REPORT_SECONDS, self.maximum_seconds / 2))


class Attempts(Section):
    """How many more times a job is submitted when it ended through no fault of its own."""

    preempted: NonNegativeInt = Field(default=3, description="It had to make room for another job.")
    node_failed: NonNegativeInt = Field(default=2, description="The computer it ran on failed.")
    lost: NonNegativeInt = Field(default=1, description="The facility forgot it without a result.")


class RemoteSite(Site):
    """A facility: what its jobs are asked with."""

    root: str = Field(
        default="/",
        description="Where the root of its collections is in the file system that its jobs see, such as `/eagle/als`.",
    )
    reads: tuple[str, ...] = Field(
        default=(),
        description="Endpoints on other collections that its jobs see at the same paths: checksums are computed there.",
    )
    job_folder: str = Field(description="Directory, as jobs see it, for the logs and reports of jobs.")
    python: str = Field(
        default="python", description="Interpreter of the environment that scripts/install_science.sh made there."
    )
    science_version: str | None = Field(
        default=None, description="Version of the science programs that must be there; the service's own if left out."
    )
    container: Container | None = Field(default=None, description="Image for the jobs; left out: no container.")
    queue: str = Field(default="", description="Queue or quality of service, such as `realtime`.")
    account: str = Field(default="", description="Allocation that pays, such as `als`.")
    constraint: str = Field(default="", description="Kind of node, such as `cpu`.")
    reservation: str = Field(default="", description="Reserved nodes, by the name of the reservation.")
    nodes: PositiveInt = Field(default=1)
    cores: PositiveInt = Field(default=64, description="Cores on each node.")
    gpus: NonNegativeInt = Field(default=0, description="GPUs on each node.")
    memory: ByteSize | None = Field(default=None, description="Memory on each node, such as `256GiB`.")
    exclusive: bool = Field(default=True, description="Whether other jobs may use the same nodes.")
    walltime: Walltime = Field(default_factory=Walltime)
    start_within_seconds: PositiveFloat = Field(
        default=6 * 3600.0,
        description="A job that has not begun by then never begins, so that work given to another site is done once.",
    )
    attempts: Attempts = Field(default_factory=Attempts)
    settle_seconds: NonNegativeFloat = Field(
        default=15.0, description="For how long a job that was submitted may still be unknown to the site."
    )
    poll_seconds: PositiveFloat = Field(default=0.5, description="Shortest time between two questions about a job.")
    job_folder_days: NonNegativeFloat = Field(
        default=30.0, description="The folder of a job is removed so long after the end of its operation; 0: never."
    )

    @model_validator(mode="after")
    def _folders_outlive_jobs(self) -> Self:
        longest = self.start_within_seconds + self.walltime.maximum_seconds
        if 0 < self.job_folder_days * 24 * 3600 < longest + 24 * 3600:
            least = math.ceil(longest / 24 / 3600 + 1)
            raise ValueError(f"`job_folder_days` must be at least {least}: so late a job may still write")
        return self

    @field_validator("root", "job_folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/") or ".." in value.split("/"):
            raise ValueError("must be an absolute path without `..`")
        return "/" + posixpath.normpath(value).strip("/")

    def seeing(self, endpoints: Collection[Endpoint], *, also: Collection[str] = ()) -> Self:
        """With the folders of proposals that its jobs see: those on its collections, and at endpoints that have these
        names.
        """
        names = {self.raw_endpoint, self.scratch_endpoint, *self.reads, *also}
        named = [each for each in endpoints if each.name in names]
        collections = {each.uuid for each in named} - {None}
        seen = [each for each in endpoints if each in named or each.uuid in collections]
        trees = (each.owned_below(self.below_root(each.root_path)) for each in seen)
        return self.model_copy(update={"owned": tuple(tree for tree in trees if tree is not None)})

    def path(self, endpoint: Endpoint, relative: RelativePath) -> str:
        """What a job at this site calls a file of an endpoint."""
        return self.below_root(endpoint.full_path(relative))

    def below_root(self, path: str) -> str:
        """What a job calls the absolute path of a collection of this site."""
        return posixpath.join(self.root, path.lstrip("/"))


class NerscSite(RemoteSite):
    """NERSC by its Superfacility API."""

    kind: Literal["nersc"] = Field(description="Jobs of NERSC's Slurm, by the Superfacility API.")
    machine: str = Field(default="perlmutter", description="The computer.")
    project: str = Field(default="", description="Project whose hours are looked at; the account if left out.")
    sessions: PositiveInt | None = Field(
        default=None,
        description="Most jobs of this service that may be submitted at once, from whatever run or machine; any number "
        "if left out.",
    )
    licenses: str = Field(default="", description="Licences of Slurm that jobs ask for, such as `SCRATCH`.")
    api_url: str = Field(default="https://api.nersc.gov/api/v1.2", description="The Superfacility API.")
    token_url: str = Field(default="https://oidc.nersc.gov/c2id/token", description="Where its tokens come from.")


class ComputeEndpoints(Section):
    """The Globus Compute endpoints of one site; which kind of step runs where."""

    compute: UUID | None = Field(default=None, description="Runs jobs, on batch nodes.")
    non_compute: UUID | None = Field(
        default=None, description="Light work on a login node: reading reports, cancelling; `compute` if left out."
    )


class GlobusComputeSite(RemoteSite):
    """A facility by Globus Compute."""

    kind: Literal["globus_compute"] = Field(description="Jobs by Globus Compute.")
    service_url: str | None = Field(default=None, description="Another web service than Globus's own.")
    endpoints: ComputeEndpoints = Field(default_factory=ComputeEndpoints)
    options: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="`user_endpoint_config` of the compute endpoint, besides queue and account. `task_seconds` (left "
        "out: half of `walltime`) must be a minute more than the longest job, and less than `walltime` (`HH:MM:00`).",
    )

    def excess(self, seconds: float) -> str:
        """Why a job of so many seconds might not come to its end at the endpoint; empty if nothing is known of it."""
        found = _WALLTIME.fullmatch(str(self.options.get("walltime", "")))
        batch = None if found is None else 3600 * int(found[1]) + 60 * int(found[2])
        named = self.options.get("task_seconds", None if batch is None else batch // 2)
        granted = named if isinstance(named, int | float) else None
        if granted is not None and seconds + ENDING_SECONDS > granted:
            return (
                f"{seconds:.0f} s and {ENDING_SECONDS:.0f} s for its end are more than the {granted:.0f} s that the "
                "endpoint gives a task: raise task_seconds (and walltime) of `options`, or shorten the job"
            )
        if granted is not None and batch is not None and granted >= batch:
            return f"task_seconds is {granted:.0f}, and a batch job ends after {batch} s: raise walltime of `options`"
        return ""


class IriSite(RemoteSite):
    """A facility by the IRI Facility API."""

    kind: Literal["iri"] = Field(description="Jobs by the IRI Facility API.")
    api_url: str = Field(description="Its base, up to and without the version: `https://api.iri.nersc.gov`.")
    version: Literal[1, 2] = Field(default=2, description="Version of the API; 2 has idempotent submission.")
    resource: str = Field(description="Name or identifier of the compute resource.")
    storage: str = Field(
        default="", description="Resource with the file system of the job folder; `resource` if left out."
    )
    project: str = Field(default="", description="Project whose allocation is looked at; the account if left out.")
    options: Mapping[str, str] = Field(
        default_factory=dict,
        description="`custom_attributes` of each job, as the facility's scheduler wants them: `filesystems: eagle`.",
    )
    token_variable: str = Field(default="IRI_API_TOKEN", description="Environment variable with the access token.")
    globus_scope: str = Field(
        default="",
        description="Scope of Globus for which the service's Globus client gets its token, in place of the variable.",
    )


ComputeSite: TypeAlias = Annotated[LocalSite | NerscSite | GlobusComputeSite | IriSite, Field(discriminator="kind")]
"""Any compute site, told apart by its `kind`."""
