"""The certificate a node serves its control endpoint with, as it said at enrolment.

Rows of before have none: their nodes speak plain HTTP, and are replaced when the manager starts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("control_fingerprint", sa.String(95)))
