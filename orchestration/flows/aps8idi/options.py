"""What can be chosen about an XPCS run, with the names that users of 8-ID know from boost_corr and its clients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestration.errors import InvalidInput
from orchestration.ledger.service import Document, Json
from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.parameters import Parameters

_WALLTIME = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)")

_FRAMES = {"begin_frame": "begin", "end_frame": "end", "stride_frame": "stride", "avg_frame": "average"}
_SCIENCE = (
    "type",
    *_FRAMES,
    "normalize_frame",
    "dq_selection",
    "smooth",
    "save_g2",
    "num_partial_g2",
    "crop_ratio_threshold",
    "gpu_id",
)
"""What changes the numbers of a result."""


class Options(BaseModel):
    """The choices of one run. Those of its result (`science`) are options of ``xpcs correlate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["Multitau", "Twotime", "Both"] = "Multitau"
    begin_frame: int = Field(default=0, description="The first frame; negative: counted from the end.")
    end_frame: int = Field(default=-1, description="The frame after the last; 0 or less: all.")
    stride_frame: int = Field(default=1, ge=1, description="Every so many-th frame is taken.")
    avg_frame: int = Field(default=1, ge=1, description="So many of those are averaged to one.")
    normalize_frame: bool = Field(default=True, description="Divide each frame by its mean.")
    dq_selection: str = Field(default="all", description="Bins for two-time functions: `1,2,5-7`.")
    smooth: Literal["sqmap", "dqmap"] = "sqmap"
    save_g2: bool = Field(default=False, description="Store G2, IP and IF of every pixel.")
    num_partial_g2: int = Field(default=0, ge=0, description="g2 of so many parts of the frames as well.")
    crop_ratio_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    gpu_id: int = Field(default=-1, ge=-2, description="The GPU to use; -1: processors; -2: one that is free.")
    fit: Literal["single", "stretched"] = "single"

    queue: str = Field(default="", description="Another queue than the site's.")
    walltime: str = Field(default="", description="Another walltime than the size of the data gives: `1:00:00`.")
    nodes: int = Field(default=0, ge=0, description="Another number of nodes than the site's.")

    skip_transfer_back: bool = Field(default=False, description="Leave the results at the site.")
    skip_publish: bool = Field(default=False, description="Make no record in the search index.")
    group: str = Field(default="", description="UUID of a Globus group that sees the record as well.")

    @model_validator(mode="after")
    def _can_be_computed(self) -> Self:
        if self.walltime and _WALLTIME.fullmatch(self.walltime) is None:
            raise ValueError(f"walltime {self.walltime!r} is not like 1:30:00")
        if self.group and not _is_uuid(self.group):
            raise ValueError(f"group {self.group!r} is not the UUID of a Globus group")
        try:
            self.parameters  # noqa: B018 - made only to see whether it can be
        except ParametersInvalid as error:
            raise ValueError(error.what) from error
        return self

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Raises InvalidInput naming everything that is wrong."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            found = [(".".join(str(part) for part in each["loc"]), each["msg"]) for each in error.errors()]
            problems = "; ".join(f"{name}: {said}" if name else said for name, said in found)
            raise InvalidInput(
                f"these options cannot be used: {problems}",
                where="options",
                next_step=f"choose among {', '.join(cls.model_fields)}",
            ) from error

    @property
    def parameters(self) -> Parameters:
        """As the program takes them.

        Raises:
            ParametersInvalid: if it would not.
        """
        return Parameters(
            type=self.type,
            frames=Selection(**{name: getattr(self, given) for given, name in _FRAMES.items()}),
            normalize_frame=self.normalize_frame,
            smooth=self.smooth,
            dq_selection=self.dq_selection,
            save_G2=self.save_g2,
            num_partial_g2=self.num_partial_g2,
            crop_ratio_threshold=self.crop_ratio_threshold,
        )

    @property
    def science(self) -> Document:
        """Those that change the numbers of a result and are not the default."""
        return self._chosen(_SCIENCE)

    @property
    def chosen(self) -> Document:
        """All that are not the default."""
        return self._chosen(type(self).model_fields)

    @property
    def given(self) -> Document:
        """All that were said, be it the default: what is not said may come from elsewhere."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    @property
    def walltime_seconds(self) -> float | None:
        """None where it is left to the size of the data."""
        found = _WALLTIME.fullmatch(self.walltime)
        return None if found is None else 3600.0 * int(found[1]) + 60.0 * int(found[2]) + int(found[3])

    def _chosen(self, names: Mapping[str, Any] | tuple[str, ...]) -> Document:
        values: dict[str, Json] = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value != type(self).model_fields[name].default}


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
