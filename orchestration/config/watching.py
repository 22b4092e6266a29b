"""How closely copies are watched once they are where they should be."""

from __future__ import annotations

from pydantic import ByteSize, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from orchestration.config.base import Section


class WatchPolicy(Section):
    """How much one pass of `watch_copies` does; the next goes on where it has ended."""

    days: PositiveFloat = Field(default=30.0, description="Every copy of every endpoint is looked at once in so long.")
    copies_per_pass: PositiveInt = Field(default=20_000, description="Copies that one pass looks at, at most.")
    seconds_per_pass: PositiveFloat = Field(default=1800.0, description="One pass begins nothing new after so long.")
    sample_share: float = Field(
        default=0.001, ge=0.0, le=1.0, description="Of the copies that a pass looks at, how many it reads as well."
    )
    sample_bytes: ByteSize = Field(
        default=ByteSize(200 * 10**9), description="What one pass reads at most, such as `200GB`."
    )
    unknown_after_days: NonNegativeFloat = Field(
        default=2.0, description="Files that the ledger does not know are listed when they are older than that."
    )
