"""What all sections of the settings share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from orchestration.errors import UnknownName

EntryKey: TypeAlias = Annotated[str, SkipJsonSchema(), Field(validation_alias="(key of the entry)")]
"""The name of an entry is the key it has in the file; it is not written a second time inside the entry."""


def _is_a_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number of days")
    return value


Days: TypeAlias = Annotated[float, Field(ge=0.0, le=36_500.0), BeforeValidator(_is_a_number)]
"""An age, or a time to wait. After a hundred years calendars end; what is never to go has no rule."""


class Section(BaseModel):
    """A part of the settings file: frozen, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: object) -> object:
        # `key:` with nothing after it, and `${VAR:-}` without VAR, read as if the line were not there.
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


def suggestion(name: str, known: Iterable[str]) -> str:
    """``did you mean `root_path`?``, or else what there is to choose from."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6) or [full for full in names if full.startswith(name)]
    if close:
        return "did you mean " + " or ".join(f"`{match}`" for match in close) + "?"
    return "known here: " + (", ".join(f"`{match}`" for match in names) or "none")


def unknown(kind: str, name: str, known: Iterable[str], *, section: str) -> UnknownName:
    return UnknownName(
        f"there is no {kind} {name!r}: {suggestion(name, known)}",
        where=section,
        next_step=f"use one of those names, or add {name!r} under `{section}` in config.yml",
    )
