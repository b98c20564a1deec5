"""A node group's policy, and when it was last followed: cooldowns outlive a stream manager."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("node_groups", sa.Column("policy", sa.Text().with_variant(MEDIUMTEXT(), "mysql")))
    op.add_column("node_groups", sa.Column("scaled_up_at", sa.Double))
    op.add_column("node_groups", sa.Column("scaled_down_at", sa.Double))
