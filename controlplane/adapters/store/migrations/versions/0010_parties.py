"""Where parties are, and the room that is kept for those of them who are still to come."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parties",
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("party", sa.String(64), nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("kept", sa.Integer, nullable=False),
        sa.Column("kept_until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("channel", "party", name="pk_parties"),
        sa.CheckConstraint("kept >= 0", name=op.f("ck_parties_kept")),
    )
    op.create_index("ix_sessions_party", "sessions", ["party"])
