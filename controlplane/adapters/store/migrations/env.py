"""Run by Alembic. The connection comes from migrate.py, which holds the lock and owns the transaction."""

from alembic import context

from controlplane.adapters.store.migrations import torn  # noqa: F401  how it is done on MySQL
from controlplane.adapters.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction holds all of it
    render_as_batch=True,
)
context.run_migrations()
