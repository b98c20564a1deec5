"""Edges: the unit is a viewer, or whoever else takes a seat."""

from collections.abc import Sequence
from decimal import Decimal

from controlplane.fleet.figures import Figures

NEEDS = ("connections or reserved",)


def load(figures: Figures) -> Decimal:
    return Decimal(figures.seats)


def waiting(people: int, _: Sequence[Figures]) -> Decimal:
    return Decimal(people)
