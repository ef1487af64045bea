"""Where alembic starts; the connection comes from `serve.store.database`."""

from alembic import context

from serve.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
