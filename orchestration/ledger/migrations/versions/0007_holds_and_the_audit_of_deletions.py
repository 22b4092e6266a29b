"""Holds that keep copies from being deleted, and what was decided about each deletion"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_REFUSE = """
    create function audit_is_append_only() returns trigger language plpgsql as
    $$ begin raise exception 'audit is append-only'; end $$
"""
_BEFORE = """
    create trigger audit_is_append_only before update or delete or truncate on audit
    for each statement execute function audit_is_append_only()
"""
_APPEND_ONLY = {
    "sqlite": tuple(
        f"create trigger audit_no_{what} before {what} on audit begin select raise(abort, 'audit is append-only'); end"
        for what in ("update", "delete")
    ),
    "postgresql": (_REFUSE, _BEFORE),
}
"""A line of it can be neither changed nor removed."""

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("scan_id", sa.String(length=36), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.Float(precision=53), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=True),
        sa.Column("released_at", sa.Float(precision=53), nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name=op.f("fk_holds_scan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    with op.batch_alter_table("holds", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_holds_scan_id"), ["scan_id"], unique=False)

    op.create_table(
        "audit",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("scan_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name=op.f("fk_audit_scan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_scan_id"), ["scan_id"], unique=False)
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("drop function audit_is_append_only()")
    op.drop_table("holds")
