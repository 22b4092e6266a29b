"""What is registered with Globus Flows and Globus Compute, remembered in a Prefect Variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from prefect.client.schemas.actions import VariableCreate, VariableUpdate

from orchestration.errors import ConfigError
from orchestration.flows.server import insist, prefect_server

VARIABLE = "globus-flows"
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One flow, and the function that it runs; empty where nothing was registered yet."""

    flow_id: str = ""
    function_id: str = ""
    function_digest: str = ""


def remembered(name: str) -> Registration:
    """Raises ConfigError if somebody has put something else into the variable."""
    found = _read().get(name, {})
    known = set(Registration.__dataclass_fields__)
    if not isinstance(found, Mapping) or not all(isinstance(found.get(key, ""), str) for key in known):
        raise ConfigError(
            f"the Prefect Variable {VARIABLE} has no registration under {name!r}",
            where=f"Prefect Variable {VARIABLE}",
            next_step=f"correct it, or delete {name!r} from it: what is registered is found again by its title",
        )
    return Registration(**{key: str(found.get(key, "")) for key in known})


def remember(name: str, registration: Registration) -> None:
    value = {**_read(), name: asdict(registration)}

    def write() -> None:
        with prefect_server() as client:
            if client.read_variable_by_name(VARIABLE) is None:
                client.create_variable(VariableCreate(name=VARIABLE, value=value))
            else:
                client.update_variable(VariableUpdate(name=VARIABLE, value=value))

    insist(write, seconds=PATIENCE_SECONDS)


def _read() -> dict[str, object]:
    def ask() -> object:
        with prefect_server() as client:
            found = client.read_variable_by_name(VARIABLE)
            return {} if found is None else found.value

    value = insist(ask, seconds=PATIENCE_SECONDS)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"the Prefect Variable {VARIABLE} is {value!r}, and should be a JSON object",
            where=f"Prefect Variable {VARIABLE}",
            next_step="delete it: what is registered is found again by its title",
        )
    return dict(value)
