"""The tables, in SQL that SQLite and MySQL both speak. A test compares them with what the migrations make.

Columns carry the names of the domain's dataclass fields, so a row and an object convert by name. `reserved`
of a node is the one counter that only conditional UPDATEs change; the CHECK forbids overfilling even to a
mistake of ours. On MySQL the tables compare texts byte by byte, as SQLite does (mysql/prepare.py).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of type INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")

# MySQL's TEXT ends at 64 kB, and a decision about five hundred nodes does not.
LongText = Text().with_variant(MEDIUMTEXT(), "mysql")

node_groups = Table(
    "node_groups",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("desired", Integer, nullable=False),
    Column("last_number", Integer, nullable=False),
    Column("faults_from", Double, nullable=False),
    Column("policy", LongText),  # JSON; none: nodes are added and ended by hand
    Column("scaled_up_at", Double),
    Column("scaled_down_at", Double),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("region", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("state_since", Double, nullable=False),
    Column("state_reason", String(500), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("reserved", Integer, nullable=False, server_default="0"),
    Column("managed", Boolean, nullable=False),
    Column("enrol_hash", String(64), nullable=False, unique=True),
    Column("enrol_expires", Double, nullable=False),
    Column("enrolled_at", Double),
    Column("credential_hash", String(64), unique=True),
    Column("pid", Integer),
    Column("start_time", Double),
    Column("control_url", String(255)),
    Column("version", String(64)),
    Column("in_service_at", Double),
    Column("faulted_at", Double),
    Column("drain_deadline", Double),
    Column("drain_viewers", Integer),
    Column("drain_moved", Integer, nullable=False, server_default="0"),
    Column("control_fingerprint", String(95)),
    CheckConstraint("reserved >= 0 AND reserved <= capacity", name="seats"),
)

streams = Table(
    "streams",
    metadata,
    Column("channel", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("state_since", Double, nullable=False),
    Column("state_reason", String(500), nullable=False),
    Column("since", Double, nullable=False),
    Column("origin", String(64)),
    Column("session", String(64)),
    Column("jti", String(64), nullable=False),
    Column("publisher", String(255)),
    Column("was_live", Boolean, nullable=False),
    Column("video_codec", String(16)),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("node", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("peer", String(64)),
    Column("ended_at", Double, index=True),
    Column("end_reason", String(16)),
    Column("party", String(64)),
    Column("moved_from", String(64)),
    Column("move_until", Double),
    Index("ix_sessions_node", "node"),
    Index("ix_sessions_party", "party"),
)

# Where each party is that has anybody on a node, and what is reserved there for the rest of it: a part of the
# node's `reserved`. A row with no node is being placed, and never seen outside its transaction.
parties = Table(
    "parties",
    metadata,
    Column("channel", String(64), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("node", String(64), nullable=False),
    Column("kept", Integer, nullable=False),
    Column("kept_until", Double, nullable=False),
    CheckConstraint("kept >= 0", name="kept"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("message", LongText, nullable=False),
    Column("data", LongText, nullable=False),
    sqlite_autoincrement=True,  # an id is never given twice, also after pruning: feeds resume by it
)

events = Table(
    "events",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("title", String(200), nullable=False),
    Column("starts_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False, index=True),
    Column("zone", String(64), nullable=False),
    Column("channel", String(64), nullable=False, index=True),
    Column("expected", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("cancelled_at", Double),
    Column("cancel_reason", String(500)),
    Column("checked_at", Double),
    sqlite_autoincrement=True,  # a name is never given twice: it stands in the journal
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("channel", String(64), nullable=False),
    Column("expires", Double, nullable=False),
)

# Rows to be held by whoever must be the only one at something (sql/statements.py's _lock).
locks = Table(
    "locks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("taken", BigInteger, nullable=False),  # how often
)

# Of the stores on a database that is asked over a network: how many transactions of each have been committed,
# so that one whose answer was lost is known to have happened, or not (mysql/store.py).
writers = Table(
    "writers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("commits", BigInteger, nullable=False),
    Column("at", Double, nullable=False),  # of the last one
)

spending = Table(
    "spending",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # its start (UTC), Unix seconds
    Column("role", String(16), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("node_ms", BigInteger, nullable=False),
    Column("egress", BigInteger, nullable=False),  # bytes
    Column("measured_ms", BigInteger, nullable=False),
    Column("unknown_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),  # counted up to here, Unix milliseconds
)

# What several stream managers on one database share. Times in these are of the database's clock.

lease = Table(
    "lease",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires", Double, nullable=False),
    Column("length_s", Double, nullable=False),
)

acts = Table(
    "acts",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("node", String(64), nullable=False, index=True),
    Column("token", BigInteger, nullable=False),
    Column("retry", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("outcome", String(255), index=True),  # none: how it ended is not known
    sqlite_autoincrement=True,
)

managers = Table(
    "managers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("api", String(255), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("manager", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("body", LongText, nullable=False),  # JSON: which rows it touched
    sqlite_autoincrement=True,
)

told = Table(
    "told",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("manager", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("body", LongText, nullable=False),
)

# What calls that changed something were answered with, under their keys: so that one that is sent again is
# answered again, and not done again. `at` is of the database's clock.
answers = Table(
    "answers",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of the key
    Column("asked", String(64), nullable=False),  # SHA-256 of what was asked for
    Column(
        "answer", LongText, nullable=False
    ),  # sealed (services/tokens.py); "" within its transaction alone
    Column("at", Double, nullable=False),
)
