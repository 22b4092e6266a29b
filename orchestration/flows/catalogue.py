"""What is deployed: the ``prefect.yaml`` of each beamline's flow package, read without importing a flow."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path

import yaml
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from orchestration.config.base import Section, unknown
from orchestration.errors import ConfigError

FILE_NAME = "prefect.yaml"
PACKAGE = Path(__file__).parent


class ScheduleSpec(Section):
    """When a deployment runs by itself; the slug is how a changed schedule is known again."""

    slug: str
    cron: str | None = None
    interval: PositiveFloat | None = Field(default=None, description="Seconds.")
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _is_one_kind(self) -> ScheduleSpec:
        if (self.cron is None) == (self.interval is None):
            raise ValueError("needs either `cron` or `interval`")
        self.schedule()
        return self

    def schedule(self) -> CronSchedule | IntervalSchedule:
        if self.cron is not None:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        return IntervalSchedule(interval=timedelta(seconds=self.interval or 0.0), timezone=self.timezone)


class WorkPoolSpec(Section):
    name: str
    work_queue_name: str = "default"


class DeploymentSpec(Section):
    """One deployment. The entry point is a module path, so that a worker finds it wherever it was started."""

    flow_name: str
    name: str
    entrypoint: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    work_pool: WorkPoolSpec
    schedules: tuple[ScheduleSpec, ...] = ()
    concurrency_limit: PositiveInt | None = None

    @property
    def full_name(self) -> str:
        return f"{self.flow_name}/{self.name}"


class Definitions(Section, extra="ignore"):
    """YAML anchors, and what the deployments themselves have no place for."""

    queue_limits: dict[str, NonNegativeInt] = Field(
        default_factory=dict, description="How many runs of a queue may be busy at once."
    )


class Catalogue(Section):
    """The deployments of one beamline."""

    beamline: str = Field(validation_alias="name")
    definitions: Definitions = Field(default_factory=Definitions)
    deployments: tuple[DeploymentSpec, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Catalogue:
        names = [deployment.full_name for deployment in self.deployments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"deployed twice: {', '.join(twice)}")
        queues = {deployment.work_pool.work_queue_name for deployment in self.deployments}
        strangers = sorted(set(self.definitions.queue_limits) - queues)
        if strangers:
            raise ValueError(f"a limit for queues that no deployment uses: {', '.join(strangers)}")
        return self

    @property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """The queues of each pool, in the order of the file: the first are served first."""
        found: dict[str, dict[str, None]] = {}
        for deployment in self.deployments:
            pool = deployment.work_pool
            found.setdefault(pool.name, {})[pool.work_queue_name] = None
        return {pool: tuple(queues) for pool, queues in found.items()}

    def in_one_pool(self, pool: str, *, queue_limit: int = 3) -> Catalogue:
        """The same deployments and queues, all in one pool, so that a single worker on a small machine serves them.

        That worker needs no limit of its own, and must have none: runs that wait for others would fill it. Each queue
        has one instead, so that no queue can keep another from being served.
        """
        deployments = tuple(
            spec.model_copy(update={"work_pool": spec.work_pool.model_copy(update={"name": pool})})
            for spec in self.deployments
        )
        queues = {spec.work_pool.work_queue_name for spec in self.deployments}
        limits = {queue: self.definitions.queue_limits.get(queue, queue_limit) for queue in queues}
        definitions = self.definitions.model_copy(update={"queue_limits": limits})
        return self.model_copy(update={"deployments": deployments, "definitions": definitions})


def beamlines() -> tuple[str, ...]:
    """All beamlines that have deployments."""
    return tuple(sorted(path.parent.name for path in PACKAGE.glob(f"*/{FILE_NAME}")))


def of_beamline(beamline: str) -> Catalogue:
    """Raises UnknownName if there is none of that name, ConfigError if its file is wrong."""
    if beamline not in beamlines():
        raise unknown("beamline", beamline, beamlines(), section=f"orchestration/flows/*/{FILE_NAME}")
    return _packaged(beamline)


@cache
def _packaged(beamline: str) -> Catalogue:
    """Of this version of the code: it is read once by a process, which may ask it for each of many copies."""
    return load(PACKAGE / beamline / FILE_NAME)


def beamlines_of(deployment: str) -> tuple[str, ...]:
    """The beamlines that deploy it; there should be one."""
    return tuple(
        name for name in beamlines() if any(spec.full_name == deployment for spec in _packaged(name).deployments)
    )


def load(path: Path) -> Catalogue:
    """Read one file.

    Raises:
        ConfigError: naming the file, the key and what is wrong with it.
    """
    try:
        return Catalogue.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the deployments cannot be read: {error}", where=str(path)) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(
            f"the deployments are wrong: {problems}", where=str(path), next_step="mend the file"
        ) from error
