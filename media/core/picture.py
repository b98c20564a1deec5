"""What is said of a picture, whatever it is coded in."""

from typing import NamedTuple


class Resolution(NamedTuple):
    """In pixels."""

    width: int
    height: int
