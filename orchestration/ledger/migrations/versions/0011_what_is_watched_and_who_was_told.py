"""How far the inventory is, what it found, files that nobody knows, and what people were told"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "inventory_rounds",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Float(precision=53), nullable=False),
        sa.Column("after_id", sa.BigInteger(), nullable=False),
        sa.Column("looked", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("after_folder", sa.Text(), nullable=False),
        sa.Column("folders_began_at", sa.Float(precision=53), nullable=True),
        sa.Column("folders_ended_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_inventory_rounds")),
    )
    op.create_table(
        "copy_findings",
        sa.Column("copy_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("by_checksum", sa.Boolean(), nullable=False),
        sa.Column("found_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_copy_findings_copy_id")),
        sa.PrimaryKeyConstraint("copy_id", name=op.f("pk_copy_findings")),
    )
    op.create_table(
        "checksum_attempts",
        sa.Column("copy_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_checksum_attempts_copy_id")),
        sa.PrimaryKeyConstraint("copy_id", name=op.f("pk_checksum_attempts")),
    )
    op.create_table(
        "unknown_folders",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("oldest", sa.Float(precision=53), nullable=False),
        sa.Column("newest", sa.Float(precision=53), nullable=False),
        sa.Column("example", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "folder", name=op.f("pk_unknown_folders")),
    )
    op.create_table(
        "notices",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.Column("sent_at", sa.Float(precision=53), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_notices")),
    )
    with op.batch_alter_table("notices", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_notices_sent_at"), ["sent_at"], unique=False)
    op.create_table(
        "warned_copies",
        sa.Column("copy_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("notice_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_warned_copies_copy_id")),
        sa.ForeignKeyConstraint(["notice_key"], ["notices.key"], name=op.f("fk_warned_copies_notice_key")),
        sa.PrimaryKeyConstraint("copy_id", "generation", name=op.f("pk_warned_copies")),
    )
    with op.batch_alter_table("warned_copies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_warned_copies_notice_key"), ["notice_key"], unique=False)
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("checked_at", sa.Float(precision=53), nullable=True))
        batch_op.create_index("ix_copies_place", ["endpoint", "path"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.drop_index("ix_copies_place")
        batch_op.drop_column("checked_at")
    op.drop_table("warned_copies")
    op.drop_table("notices")
    op.drop_table("unknown_folders")
    op.drop_table("checksum_attempts")
    op.drop_table("copy_findings")
    op.drop_table("inventory_rounds")
