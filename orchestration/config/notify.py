"""Who is written to, and by which mail server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from orchestration.config.base import Section

_ADDRESS = re.compile(r"[^\s@<>,;:\"]+@[^\s@<>,;:\"]+")


def is_address(text: str) -> bool:
    """Whether mail can be sent there, as far as its form goes."""
    return _ADDRESS.fullmatch(text) is not None


class NotifySettings(Section):
    """Mail to operators about what is wrong, and to owners about what will be deleted. No host: none is sent."""

    smtp_host: str | None = Field(default=None, description="The mail server; left out: nobody is written to.")
    smtp_port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = Field(
        default="starttls", description="How the connection is encrypted; without it no password is sent."
    )
    timeout_seconds: PositiveFloat = Field(default=30.0, description="How long the mail server may be silent.")
    sender: str = Field(default="", description="The address that mail comes from.")
    operators: tuple[str, ...] = Field(default=(), description="Who is told what is wrong.")
    owners: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="By proposal, experiment or group of owners: who is told, before what scans say.",
    )
    beamlines: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="By beamline: who is told where a scan names nobody."
    )

    @field_validator("sender", mode="after")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not is_address(value):
            raise ValueError(f"`{value}` is no mail address")
        return value

    @field_validator("operators", mode="after")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            cls._is_address(address)
        return value

    @field_validator("owners", "beamlines", mode="after")
    @classmethod
    def _lead_to_addresses(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for name, addresses in value.items():
            if not addresses:
                raise ValueError(f"`{name}` has no address")
            cls._are_addresses(addresses)
        return value

    @model_validator(mode="after")
    def _somebody_writes_to_somebody(self) -> NotifySettings:
        if self.smtp_host is not None and not (self.sender and self.operators):
            raise ValueError("with a `smtp_host` it needs a `sender` and at least one of `operators`")
        return self
