"""What a suspended run waits for: besides its deadline, whether it may move, and whether it is over"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_runs = sa.table("runs", sa.column("id", sa.String), sa.column("waiting_for", sa.JSON))


def upgrade() -> None:
    # Which of them may move was not written down: all look for themselves when their site is in trouble, as they did.
    _convert(lambda until: {"until": until, "may_move": True, "over": False})


def downgrade() -> None:
    _convert(lambda each: each["until"])


def _convert(one: Callable[[Any], Any]) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(_runs).where(_runs.c.waiting_for.is_not(None))).all():
        if row.waiting_for:
            now = {key: one(each) for key, each in row.waiting_for.items()}
            connection.execute(_runs.update().where(_runs.c.id == row.id).values(waiting_for=now))
