"""Prefect Variables: what operators change without a release, typed, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self
from uuid import UUID

from pydantic import ConfigDict, Field, PositiveFloat, ValidationError

from orchestration.config.base import Days, Section, suggestion
from orchestration.errors import ConfigError


class Variable(Section):
    """The value of one Prefect Variable; an instance holds the first values, from config.yml."""

    def document(self) -> dict[str, bool | float]:
        """The value as Prefect keeps it."""
        return self.model_dump(by_alias=True)

    def updated(self, value: object, *, variable: str) -> Self:
        """This, with what operators wrote into the Prefect Variable; keys that they left out stay as they are.

        Raises:
            ConfigError: naming each key that is unknown or has a value of the wrong type.
        """
        if not isinstance(value, Mapping):
            raise _wrong(variable, [f"it is {value!r}, and should be a JSON object"])
        try:
            return self.model_validate({**self.document(), **value}, by_alias=True, by_name=False)
        except ValidationError as error:
            raise _wrong(variable, [self._complaint(item["loc"], item["msg"]) for item in error.errors()]) from error

    def _complaint(self, loc: tuple[int | str, ...], message: str) -> str:
        key = str(loc[0]) if loc else ""
        if key not in self.document():
            return f"unknown key `{key}`, {suggestion(key, self.document())}"
        return f"`{key}` {message.removeprefix('Input ').removeprefix('Value error, ')}"


def _wrong(variable: str, complaints: list[str]) -> ConfigError:
    return ConfigError(
        f"the Prefect Variable {variable} is wrong: " + "; ".join(complaints),
        where=f"Prefect Variable {variable}",
        next_step=f"correct it under Variables in Prefect, or with `prefect variable set {variable} ... --overwrite`",
    )


def _switch(deployment: str, *, default: bool) -> bool:
    field: bool = Field(default=default, validation_alias=deployment, serialization_alias=deployment)
    return field


class DecisionSettings(Variable):
    """`decision-settings`: which deployments the dispatcher starts; keys are ``<flow>/<deployment>``."""

    new_832_file: bool = _switch("new_832_file_flow/new_file_832", default=True)
    local_recon: bool = _switch("local_recon_flow/local_recon_flow", default=True)
    nersc_recon: bool = _switch("nersc_recon_flow/nersc_recon_flow", default=False)
    alcf_recon: bool = _switch("alcf_recon_flow/alcf_recon_flow", default=False)
    any_recon: bool = _switch("any_recon_flow/any_recon_flow", default=False)


class PruningConfig(Variable):
    """`pruning-config`: ages in days at which working copies may be deleted."""

    max_wait_seconds: PositiveFloat = 120.0
    delete_alcf832_files_after_days: Days = 1.0
    delete_data832_files_after_days: Days = 14.0
    delete_nersc832_files_after_days: Days = 7.0
    delete_local832_files_after_days: Days = 1.0


class Bl832Settings(Variable):
    """`bl832-settings`: ages in days at which the raw data of 8.3.2 may be deleted."""

    delete_spot832_files_after_days: Days = 1.0
    delete_data832_files_after_days: Days = 35.0


class Bl733Settings(Variable):
    """`bl733-settings`: age in days at which the raw data of 7.3.3 may be deleted."""

    delete_data733_files_after_days: Days = 180.0


class Aps8idiSettings(Variable):
    """`aps8idi-settings`: ages in days at which working copies of 8-ID-I may be deleted."""

    delete_polaris_xpcs_files_after_days: Days = 7.0
    delete_local8idi_files_after_days: Days = 1.0


class PrefectVariables(Section):
    """The variables and their defaults; the attributes are the names with ``_`` for ``-``."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    decision_settings: DecisionSettings = Field(default_factory=DecisionSettings)
    pruning_config: PruningConfig = Field(default_factory=PruningConfig)
    bl832_settings: Bl832Settings = Field(default_factory=Bl832Settings)
    bl733_settings: Bl733Settings = Field(default_factory=Bl733Settings)
    aps8idi_settings: Aps8idiSettings = Field(default_factory=Aps8idiSettings)

    def documents(self) -> dict[str, dict[str, bool | float]]:
        """The first value of each variable, by its name in Prefect."""
        return self.model_dump(by_alias=True)


class PrefectDeployment(Section):
    """An entry of existing files; read, checked and not used: deployments are found by name."""

    name: str | None = None
    type_spec: str | None = None
    uuid: UUID | None = None


class PrefectSettings(Section):
    deployments: tuple[PrefectDeployment, ...] = ()
    variables: PrefectVariables = Field(default_factory=PrefectVariables)
