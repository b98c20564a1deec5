"""Words for people: counts, states and policies that read as they should."""

from controlplane.domain.fleet.policy import plain
from controlplane.wire.fleet import Policy


def counted(number: int, thing: str, things: str = "") -> str:
    """As in: 1 viewer, 3 viewers; 2 launches, where an s is not enough."""
    return f"{number} {thing}" if number == 1 else f"{number} {things or f'{thing}s'}"


def lasting(seconds: float) -> str:
    """A time as people say it, in its largest whole unit: 30 days, 1 hour, 90 seconds."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return counted(int(seconds // size), unit)
    return counted(max(1, round(seconds)), "second")


def spoken(state: str) -> str:
    """A state as people say it: in service, not in_service."""
    return state.replace("_", " ")


def policy_words(policy: Policy) -> str:
    """As in: 400 connections, 60 %, 1..40, +1"""
    bounds = f"{policy.min}..{policy.max}, +{policy.increment}"
    return f"{policy.capacity} {policy.unit}, {plain(policy.alarm * 100)} %, {bounds}"
