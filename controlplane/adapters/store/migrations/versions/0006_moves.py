"""Viewers are moved off a node that drains: who watches with whom, and which seat is kept for whom."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("drain_viewers", sa.Integer))
    op.add_column("nodes", sa.Column("drain_moved", sa.Integer, nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("party", sa.String(64)))
    op.add_column("sessions", sa.Column("moved_from", sa.String(64)))
    op.add_column("sessions", sa.Column("move_until", sa.Double))
