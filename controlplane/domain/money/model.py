"""Prices, a budget, and what was used: whole milliseconds and bytes, so that sums are exact."""

from dataclasses import dataclass
from decimal import Decimal

from controlplane.wire.nodes import Role

GB = 10**9
TB = 10**12
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    node_hour: Decimal
    egress_gb: Decimal  # decimal gigabytes, beyond what is free
    egress_free: int  # bytes of a calendar month (UTC), of the whole stage
    sign: str = "$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Of the whole stage. None: there is none."""

    per_hour: Decimal | None = None
    per_month: Decimal | None = None  # a calendar month, UTC

    @property
    def is_set(self) -> bool:
        return self.per_hour is not None or self.per_month is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a node group used in some time. Node time of several nodes adds up."""

    role: Role
    region: str
    node_ms: int = 0  # from launch to terminated
    egress: int = 0  # bytes to viewers, as far as it was measured
    measured_ms: int = 0  # of `node_ms`: the egress of the rest is not known
    unknown_ms: int = 0  # node time that may have been, and is not in `node_ms`

    @property
    def group(self) -> str:
        return f"{self.role}@{self.region}"

    @property
    def unmeasured_ms(self) -> int:
        return max(0, self.node_ms - self.measured_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourUsed:
    """What is added to an hour (UTC) of a group, counted until `until_ms` (Unix time)."""

    hour: int  # its start, Unix seconds
    used: Used
    until_ms: int
