"""The environment that Alembic runs for each command, in the connection and the transaction of the caller."""

from alembic import context

from app.catalog.tables import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
