"""What several stream managers on one database share: lease, acts outside, changes, reports, themselves."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from controlplane.adapters.store.tables import RowNumber

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("length_s", sa.Double, nullable=False),
    )
    op.create_table(
        "acts",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("retry", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("outcome", sa.String(255)),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_acts_node", "acts", ["node"])
    op.create_index("ix_acts_outcome", "acts", ["outcome"])
    op.create_table(
        "managers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("api", sa.String(255), nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=True),
        sa.Column("manager", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("body", sa.Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "told",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("manager", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("body", sa.Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
    )
