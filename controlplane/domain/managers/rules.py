"""Decisions about the lease, as pure functions of its row and the database's time."""

from controlplane.domain.managers.model import Lease

RENEWALS = 3  # in the length of a lease: two may fail


def may_take(lease: Lease | None, manager: str, now: float) -> bool:
    """Whether `manager` may become the holder.

    Its own it may always take over: only one process at a time goes by an id, so whoever held it under this
    one has ended. A lease that ends later than it can is of a clock that was set back since.
    """
    if lease is None or lease.holder in ("", manager):
        return True
    return lease.expires <= now or lease.expires > now + lease.length_s


def is_fenced_off(lease: Lease | None, token: int) -> bool:
    """Whether a write that carries this token comes too late. While nobody has taken an expired lease, its
    holder's writes do no harm."""
    return lease is None or lease.token != token
