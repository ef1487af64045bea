"""Alembic environment; `serve.store.database` passes the connection."""

from alembic import context

from serve.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
