"""When what the jobs of an operation had left at their site was removed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cleared_at", sa.Float(precision=53), nullable=True))
        batch_op.create_index("ix_operations_uncleared", ["service", "cleared_at", "finished_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.drop_index("ix_operations_uncleared")
        batch_op.drop_column("cleared_at")
