"""Alembic runs this for each command; the connection is the caller's, and so is the transaction."""

from alembic import context

from app.catalog.tables import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
