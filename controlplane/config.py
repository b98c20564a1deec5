"""The stream manager's settings: read once, from a TOML file, every key known or refused.

`config-sample.toml` beside this file documents each key; a test holds its values against these defaults.
"""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.errors import StartError

SAMPLE = Path(__file__).with_name("config-sample.toml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(_Section):
    name: str = Field("local", min_length=1, max_length=64)
    region: str = Field("local", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")


class FleetConfig(_Section):
    origins: int = Field(1, ge=0, le=100)
    edges: int = Field(1, ge=0, le=100)
    origin_capacity: int = Field(20, ge=1, le=100_000)
    edge_capacity: int = Field(400, ge=1, le=100_000)
    launch_s: float = Field(60.0, gt=0, le=1800)
    viewer_mbps: float = Field(4.5, gt=0, le=1000)
    boot_timeout_s: float = Field(30.0, gt=0)
    suspect_after_s: float = Field(10.0, gt=0)
    faulty_after_s: float = Field(60.0, gt=0)
    faults_stop: int = Field(5, ge=1)
    faults_window_s: float = Field(60.0, gt=0)
    drain_grace_s: float = Field(5.0, ge=0)
    moves_at_once: int = Field(20, ge=1, le=10_000)
    move_kept_s: float = Field(8.0, gt=0, le=60)
    kill_after_s: float = Field(3.0, gt=0)
    tcp_port: int = Field(0, ge=0, le=65_535)
    workers: int = Field(1, ge=0, le=256)


class LeaseConfig(_Section):
    length_s: float = Field(6.0, ge=1.0, le=300.0)


class PricesConfig(_Section):
    """In the currency of the sign; a GB and a TB are decimal."""

    currency: str = Field("$", pattern=r"^[^\s\d.,+\[\]-]{1,4}$")
    node_hour: float = Field(0.031, ge=0, le=1000)
    egress_gb: float = Field(0.0085, ge=0, le=1000)
    egress_free_tb: float = Field(10.0, ge=0, le=1_000_000)


class BudgetConfig(_Section):
    """Of the whole stage, in the currency of the prices. 0: none."""

    per_hour: float = Field(0.0, ge=0, le=1_000_000_000)
    per_month: float = Field(0.0, ge=0, le=1_000_000_000)


class StreamsConfig(_Section):
    connect_s: float = Field(20.0, gt=0)
    reconnect_s: float = Field(10.0, gt=0)
    stalled_s: float = Field(5.0, gt=0)
    stalled_reporting_s: float = Field(60.0, gt=0)


class ViewersConfig(_Section):
    latency_interval_s: float = Field(2.0, gt=0)
    latency_posts_per_s: float = Field(200.0, gt=0)
    joining: int = Field(2000, ge=1)
    joining_per_address: int = Field(100, ge=1)
    party_size: int = Field(8, ge=1, le=32)
    party_kept_s: float = Field(60.0, gt=0, le=3600)


class IceServer(_Section):
    """A STUN or TURN server to name to publishers and viewers (RFC 7064, RFC 7065)."""

    url: str = Field(pattern=r"^(stuns?|turns?):[!#-;=?-\[\]-~]{1,250}$")  # of a URI, without < > " and \
    username: str | None = Field(None, pattern=r"^[ -~]{1,250}$")
    credential: str | None = Field(None, pattern=r"^[ -~]{1,250}$")


class IceConfig(_Section):
    servers: list[IceServer] = []


class DatabaseConfig(_Section):
    """Where the stream manager keeps what must outlive it: in its data folder, or on a server."""

    url: str = Field("", max_length=1000)
    password_file: str = ""
    tls: Literal["", "verify", "require", "off"] = ""
    tls_ca: str = ""


class JournalConfig(_Section):
    keep: int = Field(20_000, ge=200)


class RepeatsConfig(_Section):
    """Calls that are sent again with the key they came with."""

    kept_h: float = Field(24.0, ge=1.0, le=720.0)


class HistoryConfig(_Section):
    keep_days: int = Field(14, ge=1, le=366)


class ManagerConfig(_Section):
    stage: StageConfig = StageConfig()
    database: DatabaseConfig = DatabaseConfig()
    fleet: FleetConfig = FleetConfig()
    lease: LeaseConfig = LeaseConfig()
    prices: PricesConfig = PricesConfig()
    budget: BudgetConfig = BudgetConfig()
    streams: StreamsConfig = StreamsConfig()
    viewers: ViewersConfig = ViewersConfig()
    ice: IceConfig = IceConfig()
    journal: JournalConfig = JournalConfig()
    repeats: RepeatsConfig = RepeatsConfig()
    history: HistoryConfig = HistoryConfig()


def load(path: Path | None) -> ManagerConfig:
    """The defaults, or what a file says. StartError names each key that is wrong."""
    if path is None:
        return ManagerConfig()
    try:
        return ManagerConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StartError(f"the settings {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        found = "; ".join(_fault(it["loc"], it["type"], it["msg"]) for it in error.errors())
        raise StartError(f"the settings {path}: {found}. {SAMPLE.name} shows every key.") from error
    except (ValueError, RecursionError) as error:  # tomllib has its own, but not for every number and depth
        raise StartError(f"the settings {path} are not TOML: {error}.") from error


def _fault(place: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in place)
    return f"{key}: {'there is no such key' if kind == 'extra_forbidden' else message.lower()}"
