"""Words for people: counts and states that read as they should."""


def counted(number: int, thing: str) -> str:
    """As in: 1 viewer, 3 viewers."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def spoken(state: str) -> str:
    """A state as people say it: in service, not in_service."""
    return state.replace("_", " ")
