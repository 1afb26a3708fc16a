"""What alembic runs: the migrations, on the connection that `prepare` hands over."""

from __future__ import annotations

from alembic import context

from sync.central.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction holds all of it
)
with context.begin_transaction():
    context.run_migrations()
