"""Alembic's environment: upgrades run on the connection that `storage.migrate` hands over, in one transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="public")
with context.begin_transaction():
    context.run_migrations()
