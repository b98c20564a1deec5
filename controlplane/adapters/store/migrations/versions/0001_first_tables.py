"""The first tables: groups, nodes, streams, sessions, journal, revoked tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "node_groups",
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("desired", sa.Integer, nullable=False),
        sa.Column("last_number", sa.Integer, nullable=False),
        sa.Column("faults_from", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("role", "region", name="pk_node_groups"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("state_since", sa.Double, nullable=False),
        sa.Column("state_reason", sa.String(500), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("reserved", sa.Integer, nullable=False, server_default="0"),
        sa.Column("managed", sa.Boolean, nullable=False),
        sa.Column("enrol_hash", sa.String(64), nullable=False),
        sa.Column("enrol_expires", sa.Double, nullable=False),
        sa.Column("enrolled_at", sa.Double),
        sa.Column("credential_hash", sa.String(64)),
        sa.Column("pid", sa.Integer),
        sa.Column("start_time", sa.Double),
        sa.Column("control_url", sa.String(255)),
        sa.Column("version", sa.String(64)),
        sa.Column("in_service_at", sa.Double),
        sa.Column("faulted_at", sa.Double),
        sa.Column("drain_deadline", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.UniqueConstraint("enrol_hash", name="uq_nodes_enrol_hash"),
        sa.UniqueConstraint("credential_hash", name="uq_nodes_credential_hash"),
        sa.CheckConstraint("reserved >= 0 AND reserved <= capacity", name=op.f("ck_nodes_seats")),
    )
    op.create_index("ix_nodes_state", "nodes", ["state"])
    op.create_table(
        "streams",
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("state_since", sa.Double, nullable=False),
        sa.Column("state_reason", sa.String(500), nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("origin", sa.String(64)),
        sa.Column("session", sa.String(64)),
        sa.Column("jti", sa.String(64), nullable=False),
        sa.Column("publisher", sa.String(255)),
        sa.Column("was_live", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_streams"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("peer", sa.String(64)),
        sa.Column("ended_at", sa.Double),
        sa.Column("end_reason", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_node", "sessions", ["node"])
    op.create_index("ix_sessions_ended_at", "sessions", ["ended_at"])
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("message", sa.Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
        sa.Column("data", sa.Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "revoked_tokens",
        sa.Column("jti", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("jti", name="pk_revoked_tokens"),
    )
