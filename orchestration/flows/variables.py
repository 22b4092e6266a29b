"""What operators change in Prefect without a release, typed, with the defaults of config.yml.

Prefect's server can be away. What only decides where data goes is then taken from config.yml: data must move. What
decides when data is deleted is not: the operators may have set a longer time than the file, so nothing is planned
until they can be read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from orchestration.config import RetentionRule, Settings
from orchestration.config.base import suggestion
from orchestration.config.variables import Variable
from orchestration.errors import ConfigError, ServiceUnavailable
from orchestration.flows.server import insist, prefect_server

logger = logging.getLogger(__name__)

DECISIONS = "decision-settings"

QUICK = 10.0
"""Seconds to wait for the server where config.yml is a good answer."""

PATIENT = 600.0
"""Seconds to wait for the server where it is not."""


def decision_settings(settings: Settings, *, patience: float = QUICK) -> Mapping[str, bool]:
    """Which deployments the dispatcher starts, by their names; those of config.yml while the server is away.

    Raises:
        ConfigError: if the variable is wrong, naming the key and the remedy.
    """
    first = settings.prefect.variables.decision_settings
    try:
        found = _current(DECISIONS, first, patience=patience)
    except ServiceUnavailable as silence:
        logger.warning("%s is taken from config.yml, as the Prefect server cannot say: %s", DECISIONS, silence.what)
        found = first
    return {name: bool(value) for name, value in found.document().items()}


def retention_days(settings: Settings, rule: RetentionRule, *, patience: float = PATIENT) -> float:
    """The age in days at which a copy may go: what operators set, or else the rule's own number.

    Raises:
        ServiceUnavailable: if Prefect does not answer within `patience` seconds; the copy is then to be kept.
        ConfigError: if the variable is wrong, naming the key and the remedy.
    """
    if rule.override is None:
        return rule.after_days
    name, key = rule.override.variable, rule.override.key
    first = _first(settings, rule, name)
    if key not in first.document():
        raise _unknown(f"the Prefect Variable {name} has no key {key!r}", key, first.document(), rule)
    written = _written(name, patience=patience)
    if written is None:
        return rule.after_days
    days = first.updated(written, variable=name).document()[key]
    return float(days) if isinstance(written, Mapping) and key in written else rule.after_days


def is_set(settings: Settings, name: str) -> bool:
    """Whether Prefect has one of the variables of config.yml.

    Raises:
        ServiceUnavailable: if it does not answer.
        ConfigError: if what is written there is wrong, naming the key and the remedy.
    """
    first: Variable = getattr(settings.prefect.variables, name.replace("-", "_"))
    written = _written(name, patience=QUICK)
    if written is not None:
        first.updated(written, variable=name)
    return written is not None


def _current(name: str, first: Variable, *, patience: float) -> Variable:
    """The first values, with whatever operators have changed."""
    written = _written(name, patience=patience)
    return first if written is None else first.updated(written, variable=name)


def _first(settings: Settings, rule: RetentionRule, name: str) -> Variable:
    variables = settings.prefect.variables
    found = getattr(variables, name.replace("-", "_"), None)
    if not isinstance(found, Variable):
        raise _unknown(f"there is no Prefect Variable {name!r}", name, variables.documents(), rule)
    return found


def _unknown(what: str, name: str, known: Iterable[str], rule: RetentionRule) -> ConfigError:
    return ConfigError(
        f"{what}: {suggestion(name, known)}",
        where=f"retention.{rule.endpoint}.override",
        next_step="correct it in config.yml",
    )


def _written(name: str, *, patience: float) -> object:
    """What Prefect has under that name; None if it has nothing.

    Raises:
        ServiceUnavailable: if it does not answer within `patience` seconds.
    """

    def ask() -> object:
        with prefect_server() as client:
            found = client.read_variable_by_name(name)
            return None if found is None else found.value

    return insist(ask, seconds=patience)
