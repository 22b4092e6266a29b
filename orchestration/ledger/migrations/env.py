"""Run by Alembic, from `orchestration.ledger.database.migrate` alone."""

from alembic import context

from orchestration.ledger.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
