"""What the flow of a deployment takes, as Prefect has it, and which of it is the path that a person names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prefect.exceptions import ObjectNotFound

from orchestration.errors import InvalidInput, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.server import insist, prefect_server
from orchestration.flows.starting import BUSY_SECONDS, deployment_of
from orchestration.ledger.service import Document, Json

PATHS = ("file_path", "file_paths", "relative_path")
"""What flows call the path, or the paths, of what they are started for."""

_FLAG = "is_export_control"

_ELSEWHERE = frozenset({"archive", "prune"})
"""Tags of flows that act on what lies at another place: acquisition need not have it (any more)."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Of one flow."""

    deployment: str
    module: str
    """Which runs it in a terminal."""
    names: tuple[str, ...]
    required: frozenset[str]
    """Those that neither the flow nor its deployment has a value for."""
    elsewhere: bool
    """Its path is that of something which acquisition need not have."""

    @classmethod
    def of(cls, beamline: str, flow_name: str) -> Intake:
        """Raises UnknownName if the beamline has no such flow, or Prefect no such deployment."""
        name = deployment_of(beamline, flow_name)
        spec = next(each for each in catalogue.of_beamline(beamline).deployments if each.full_name == name)
        schema, given = insist(lambda: _deployed(beamline, name), seconds=BUSY_SECONDS)
        properties, required = schema.get("properties"), schema.get("required")
        return cls(
            deployment=name,
            module=spec.entrypoint.rpartition(".")[0],
            names=tuple(properties) if isinstance(properties, Mapping) else (),
            required=frozenset(map(str, required if isinstance(required, list) else ())) - set(given),
            elsewhere=bool(_ELSEWHERE.intersection(spec.tags)),
        )

    def parameters(self, path: str, chosen: Mapping[str, Json], *, export_controlled: bool) -> Document:
        """Those of a run for this path, with what else a person has chosen.

        Raises:
            InvalidInput: if the flow takes no path, needs more than was chosen, or does not take what was.
        """
        named = self.path_parameter
        given: Document = {**chosen, named: [path] if named == "file_paths" else path}
        if export_controlled:
            given[_FLAG] = True
        for name in given:
            if name not in self.names:
                raise InvalidInput(
                    f"it has no parameter {name!r}",
                    where=self.deployment,
                    next_step=f"leave it out; it takes {', '.join(self.names)}",
                )
        if missing := sorted(self.required - given.keys()):
            raise InvalidInput(
                f"it needs to be told {' and '.join(missing)} as well",
                where=self.deployment,
                next_step=f"give {' '.join(f'--set {name}=VALUE' for name in missing)}",
            )
        return given

    @property
    def path_parameter(self) -> str:
        """Raises InvalidInput if there is none."""
        for name in PATHS:
            if name in self.names:
                return name
        takes = f"it takes {', '.join(self.names)}" if self.names else "it takes nothing"
        raise InvalidInput(
            f"it is not started for a path: {takes}",
            where=self.deployment,
            next_step=f"start it in Prefect, or with `python -m {self.module}`, which says with --help what to give",
        )


def _deployed(beamline: str, name: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """The schema of the parameters, and those that the deployment gives."""
    with prefect_server() as client:
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound as error:
            raise UnknownName(
                f"Prefect has no deployment {name}",
                where=str(client.api_url),
                next_step=f"run `./create_deployments.sh {beamline}`, then start the flow again",
            ) from error
    return found.parameter_openapi_schema or {}, found.parameters or {}
