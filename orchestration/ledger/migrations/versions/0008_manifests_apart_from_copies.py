"""Manifests apart from the copies that have them, and copies that are deleted many at a time"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ROWS = 1000
"""Moved at once: a manifest may be long."""

_manifests = sa.table("manifests", sa.column("digest", sa.String), sa.column("body", sa.LargeBinary))
_copies = sa.table(
    "copies", sa.column("id", sa.BigInteger), sa.column("manifest", sa.JSON), sa.column("digest", sa.String)
)


def upgrade() -> None:
    op.create_table(
        "manifests",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manifests")),
    )
    op.add_column("copies", sa.Column("digest", sa.String(length=64), nullable=True))
    _move(_shelve)
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.drop_column("manifest")
        batch_op.alter_column("digest", new_column_name="manifest", nullable=False, existing_type=sa.String(length=64))
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.create_foreign_key(batch_op.f("fk_copies_manifest"), "manifests", ["manifest"], ["digest"])
        batch_op.add_column(sa.Column("deletion", sa.String(length=40), nullable=True))
        batch_op.create_index(batch_op.f("ix_copies_delete_after"), ["delete_after"], unique=False)
        batch_op.create_index("ix_copies_of_scan", ["scan_id", "delete_after", "state"], unique=False)
        batch_op.drop_index(batch_op.f("ix_copies_scan_id"))
        batch_op.drop_index(batch_op.f("ix_copies_state"))


def downgrade() -> None:
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_copies_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_copies_scan_id"), ["scan_id"], unique=False)
        batch_op.drop_index("ix_copies_of_scan")
        batch_op.drop_index(batch_op.f("ix_copies_delete_after"))
        batch_op.drop_column("deletion")
        batch_op.drop_constraint(batch_op.f("fk_copies_manifest"), type_="foreignkey")
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.alter_column("manifest", new_column_name="digest", nullable=True, existing_type=sa.String(length=64))
    op.add_column("copies", sa.Column("manifest", sa.JSON(), nullable=True))
    _move(_unshelve)
    with op.batch_alter_table("copies", schema=None) as batch_op:
        batch_op.drop_column("digest")
        batch_op.alter_column("manifest", nullable=False, existing_type=sa.JSON())
    op.drop_table("manifests")


def _move(change: Any) -> None:
    connection, last = op.get_bind(), 0
    while rows := connection.execute(
        sa.select(_copies).where(_copies.c.id > last).order_by(_copies.c.id).limit(_ROWS)
    ).all():
        for row in rows:
            connection.execute(sa.update(_copies).where(_copies.c.id == row.id).values(**change(connection, row)))
        last = rows[-1].id


def _shelve(connection: sa.Connection, row: Any) -> dict[str, Any]:
    files = [[entry["path"], entry["size"], entry["checksum"]] for entry in row.manifest]
    body = json.dumps(files, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    known = sa.select(_manifests.c.digest).where(_manifests.c.digest == digest)
    if connection.execute(known).one_or_none() is None:
        connection.execute(sa.insert(_manifests).values(digest=digest, body=zlib.compress(body, 1)))
    return {"digest": digest}


def _unshelve(connection: sa.Connection, row: Any) -> dict[str, Any]:
    body = connection.execute(sa.select(_manifests.c.body).where(_manifests.c.digest == row.digest)).scalar_one()
    files = json.loads(zlib.decompress(body))
    return {"manifest": [{"path": path, "size": size, "checksum": checksum} for path, size, checksum in files]}
