"""Arrivals that go together, and operations of many scans"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "operation_scans",
        sa.Column("operation_key", sa.String(length=40), nullable=False),
        sa.Column("scan_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["operation_key"], ["operations.key"], name=op.f("fk_operation_scans_operation_key")),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name=op.f("fk_operation_scans_scan_id")),
        sa.PrimaryKeyConstraint("operation_key", "scan_id", name=op.f("pk_operation_scans")),
    )
    op.create_index(op.f("ix_operation_scans_scan_id"), "operation_scans", ["scan_id"], unique=False)
    op.create_table(
        "arrivals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("scan_id", sa.String(length=36), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("arrived_at", sa.Float(precision=53), nullable=False),
        sa.Column("at_most", sa.Integer(), nullable=False),
        sa.Column("operation_key", sa.String(length=40), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("settled_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(["operation_key"], ["operations.key"], name=op.f("fk_arrivals_operation_key")),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name=op.f("fk_arrivals_scan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrivals")),
        sa.UniqueConstraint(
            "scan_id",
            "dataset",
            "source",
            "destination",
            "path",
            name=op.f("uq_arrivals_scan_id_dataset_source_destination_path"),
        ),
    )
    op.create_index(op.f("ix_arrivals_operation_key"), "arrivals", ["operation_key"], unique=False)
    waiting = ["source", "destination", "operation_key", "settled_at"]
    op.create_index("ix_arrivals_waiting", "arrivals", waiting, unique=False)


def downgrade() -> None:
    op.drop_index("ix_arrivals_waiting", table_name="arrivals")
    op.drop_index(op.f("ix_arrivals_operation_key"), table_name="arrivals")
    op.drop_table("arrivals")
    op.drop_index(op.f("ix_operation_scans_scan_id"), table_name="operation_scans")
    op.drop_table("operation_scans")
