"""Runs the migrations on the connection that `app.db.migrations` hands over; there is no other way in."""

from sqlalchemy import Connection

from alembic import context
from app.db.models import Base

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transaction_per_migration=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
