"""The tables of the ledger. Times are seconds since the epoch in UTC; documents are JSON.

What a person or a service names is Text: a name that is too long for a column would be a failure of our own making.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _time(name: str, **options: Any) -> Column[float]:
    return Column(name, Float(53), **options)


scans = Table(
    "scans",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("beamline", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, default=""),
    Column("export_controlled", Boolean, nullable=False, default=False),
    Column("facts", JSON, nullable=False, default=dict),
    _time("registered_at", nullable=False, index=True),
    UniqueConstraint("beamline", "path"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=True, index=True),
    Column("flow", Text, nullable=False),
    Column("parameters", JSON, nullable=False, default=dict),
    Column("owner", Text, nullable=False),
    _time("lease_until", nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("error", JSON, nullable=True),
    _time("started_at", nullable=False),
    _time("finished_at", nullable=True),
    Column("waiting_for", JSON, nullable=True),
)

watchers = Table(
    "watchers",
    metadata,
    Column("id", Text, primary_key=True),
    _time("started_at", nullable=False),
    _time("alive_until", nullable=False),
)

watches = Table(
    "watches",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("watcher", Text, nullable=False),
    _time("lease_until", nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False, index=True),
    Column("step", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("run_id", String(64), nullable=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("token", Text, nullable=True),
    Column("handle", Text, nullable=True),
    Column("owner", Text, nullable=True),
    _time("lease_until", nullable=True),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("progress", JSON, nullable=True),
    Column("evidence", JSON, nullable=True),
    Column("error", JSON, nullable=True),
    _time("created_at", nullable=False),
    _time("began_at", nullable=False),
    _time("submitted_at", nullable=True),
    _time("finished_at", nullable=True),
    _time("cleared_at", nullable=True),
    Index("ix_operations_state_lease", "state", "lease_until"),
    Index("ix_operations_uncleared", "service", "cleared_at", "finished_at"),
)

operation_scans = Table(
    "operation_scans",
    metadata,
    Column("operation_key", String(40), ForeignKey("operations.key"), primary_key=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), primary_key=True, index=True),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False),
    Column("dataset", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("run_id", String(64), nullable=False),
    _time("arrived_at", nullable=False),
    Column("at_most", Integer, nullable=False),
    Column("operation_key", String(40), ForeignKey("operations.key"), nullable=True, index=True),
    Column("error", JSON(none_as_null=True), nullable=True),
    _time("settled_at", nullable=True),
    UniqueConstraint("scan_id", "dataset", "source", "destination", "path"),
    Index("ix_arrivals_waiting", "source", "destination", "operation_key", "settled_at"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("operation_key", String(40), ForeignKey("operations.key"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    _time("at", nullable=False),
    Column("event", String(32), nullable=False),
    Column("detail", JSON, nullable=True),
)

manifests = Table(
    "manifests",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

copies = Table(
    "copies",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False),
    Column("dataset", Text, nullable=False),
    Column("endpoint", Text, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("version", Text, nullable=False, default=""),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False, default=1),
    Column("size", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("manifest", String(64), ForeignKey("manifests.digest"), nullable=False),
    Column("verified_by", String(40), nullable=True),
    Column("method", Text, nullable=False),
    _time("verified_at", nullable=False),
    _time("delete_after", nullable=True, index=True),
    _time("deleted_at", nullable=True),
    Column("deletion", String(40), nullable=True),
    _time("quarantined_at", nullable=True),
    Column("quarantine_path", Text, nullable=True),
    _time("checked_at", nullable=True),
    UniqueConstraint("scan_id", "dataset", "endpoint", "path"),
    Index("ix_copies_of_scan", "scan_id", "delete_after", "state"),
    Index("ix_copies_place", "endpoint", "path"),
)

results = Table(
    "results",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False, index=True),
    Column("operation_key", String(40), ForeignKey("operations.key"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("receipt", JSON, nullable=False),
    _time("created_at", nullable=False),
    UniqueConstraint("operation_key", "scan_id", "kind"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False, index=True),
    Column("run_id", String(64), nullable=False),
    Column("subject", String(64), nullable=False, index=True),
    Column("step", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("candidates", JSON, nullable=False),
    _time("decided_at", nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("flow", Text, nullable=False),
    Column("beamline", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("run_id", String(64), nullable=False),
    _time("created_at", nullable=False, index=True),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch_id", String(64), ForeignKey("batches.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("parameters", JSON, nullable=False),
    Column("position", Integer, nullable=False),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=True, index=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", JSON, nullable=True),
    Column("evidence", JSON, nullable=True),
    _time("updated_at", nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False, index=True),
    Column("why", Text, nullable=False),
    Column("who", Text, nullable=False),
    _time("placed_at", nullable=False),
    _time("until", nullable=True),
    _time("released_at", nullable=True),
    Column("released_by", Text, nullable=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _time("at", nullable=False),
    Column("scan_id", String(36), ForeignKey("scans.id"), nullable=False, index=True),
    Column("run_id", String(64), nullable=True),
    Column("dataset", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
)

inventory_rounds = Table(
    "inventory_rounds",
    metadata,
    Column("endpoint", Text, primary_key=True),
    _time("began_at", nullable=False),
    Column("after_id", BigInteger, nullable=False),
    Column("looked", BigInteger, nullable=False),
    _time("ended_at", nullable=True),
    Column("after_folder", Text, nullable=False, default=""),
    _time("folders_began_at", nullable=True),
    _time("folders_ended_at", nullable=True),
)

copy_findings = Table(
    "copy_findings",
    metadata,
    Column("copy_id", BigInteger, ForeignKey("copies.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("why", Text, nullable=False),
    Column("by_checksum", Boolean, nullable=False),
    _time("found_at", nullable=False),
)

checksum_attempts = Table(
    "checksum_attempts",
    metadata,
    Column("copy_id", BigInteger, ForeignKey("copies.id"), primary_key=True),
    _time("at", nullable=False),
    Column("why", Text, nullable=True),
)

unknown_folders = Table(
    "unknown_folders",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    _time("oldest", nullable=False),
    _time("newest", nullable=False),
    Column("example", Text, nullable=False),
    _time("seen_at", nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("key", Text, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("addresses", JSON, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    _time("made_at", nullable=False),
    _time("sent_at", nullable=True, index=True),
    Column("trouble", Text, nullable=False, default=""),
)

warned_copies = Table(
    "warned_copies",
    metadata,
    Column("copy_id", BigInteger, ForeignKey("copies.id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("notice_key", Text, ForeignKey("notices.key"), nullable=False, index=True),
)
