"""Prefect Variables: what operators change without a release, typed, with their defaults."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat

from orchestration.config.base import Section


def _switch(deployment: str, *, default: bool) -> bool:
    field: bool = Field(default=default, validation_alias=deployment, serialization_alias=deployment)
    return field


class DecisionSettings(Section):
    """`decision-settings`: which deployments the dispatcher starts; keys are ``<flow>/<deployment>``."""

    new_832_file: bool = _switch("new_832_file_flow/new_file_832", default=True)
    local_recon: bool = _switch("local_recon_flow/local_recon_flow", default=True)
    nersc_recon: bool = _switch("nersc_recon_flow/nersc_recon_flow", default=False)
    alcf_recon: bool = _switch("alcf_recon_flow/alcf_recon_flow", default=False)


class PruningConfig(Section):
    """`pruning-config`: ages in days at which working copies may be deleted."""

    max_wait_seconds: PositiveFloat = 120.0
    delete_alcf832_files_after_days: NonNegativeFloat = 1.0
    delete_data832_files_after_days: NonNegativeFloat = 14.0
    delete_nersc832_files_after_days: NonNegativeFloat = 7.0
    delete_local832_files_after_days: NonNegativeFloat = 1.0


class Bl832Settings(Section):
    """`bl832-settings`: ages in days at which the raw data of 8.3.2 may be deleted."""

    delete_spot832_files_after_days: NonNegativeFloat = 1.0
    delete_data832_files_after_days: NonNegativeFloat = 35.0


class PrefectVariables(Section):
    """The variables and their defaults; the attributes are the names with ``_`` for ``-``."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    decision_settings: DecisionSettings = Field(default_factory=DecisionSettings)
    pruning_config: PruningConfig = Field(default_factory=PruningConfig)
    bl832_settings: Bl832Settings = Field(default_factory=Bl832Settings)


class PrefectDeployment(Section):
    """An entry of existing files; read, checked and not used: deployments are found by name."""

    name: str | None = None
    type_spec: str | None = None
    uuid: UUID | None = None


class PrefectSettings(Section):
    deployments: tuple[PrefectDeployment, ...] = ()
    variables: PrefectVariables = Field(default_factory=PrefectVariables)
