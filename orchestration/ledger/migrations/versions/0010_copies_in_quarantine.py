"""Copies that lie in quarantine before they are deleted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("quarantined_at", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("quarantine_path", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.drop_column("quarantine_path")
        batch_op.drop_column("quarantined_at")
