"""Alembic environment: runs on the connection that :meth:`OperationsStore.migrate` hands over."""

from alembic import context

from dsa110_resources.operations.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
