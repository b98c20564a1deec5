"""What a stage costs (`/api/v1/cost`), and the one way to write an amount of money.

Amounts are exact to a millionth; numbers in JSON. Times are Unix seconds; days and months are UTC's.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated

from pydantic import PlainSerializer

from controlplane.wire.base import Message

MILLIONTH = Decimal("0.000001")

Amount = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


def money(amount: Decimal, sign: str) -> str:
    """$4.10, $1,204.50, -$0.31; below one as far as ten-thousandths where they say something: $0.031."""
    size = abs(amount)
    places = Decimal("0.01") if size >= 1 else Decimal("0.0001")
    digits = f"{size.quantize(places, ROUND_HALF_UP):,f}"
    whole, _, rest = digits.partition(".")
    written = f"{whole}.{rest.rstrip('0').ljust(2, '0')}"
    minus = "-" if amount < 0 and written.strip("0.") else ""
    gap = " " if sign[-1:].isalpha() else ""
    return f"{minus}{sign}{gap}{written}"


def hourly(amount: Decimal, sign: str) -> str:
    """What a step adds or saves: +$0.31 an hour."""
    return f"{'' if amount < 0 else '+'}{money(amount, sign)} an hour"


def exact(amount: Decimal) -> Decimal:
    """To a millionth."""
    return amount.quantize(MILLIONTH, ROUND_HALF_UP)


class PricesView(Message):
    currency: str  # its sign: $
    node_hour: Amount
    egress_gb: Amount  # a decimal gigabyte, beyond what is free
    egress_free_gb: float  # a calendar month, of the whole stage


class CostNow(Message):
    """At this moment, an hour."""

    nodes: int
    nodes_hour: Amount
    egress_bps: float  # to viewers, of the edges whose reports are fresh
    egress_known: bool  # False: some edge's report is not, and it is more
    egress_hour: Amount  # beyond what is free
    hour: Amount  # both
    free_left_gb: float  # of this month's free egress


class GroupCost(Message):
    group: str  # ROLE@REGION
    node_hours: float
    nodes: Amount
    egress_gb: float


class CostSpan(Message):
    """A time, in whole hours."""

    start: float
    end: float
    node_hours: float
    nodes: Amount
    egress_gb: float
    egress: Amount  # beyond what was free
    cost: Amount  # both
    unmeasured_s: float  # node time whose egress is not known, and not in the figures
    unknown_s: float  # node time that may have been, and is not in the figures: at most so much
    groups: list[GroupCost] = []


class Forecast(Message):
    until: float
    cost: Amount  # what was spent, and what is to come
    because: str  # what it supposes, in one sentence


class BudgetView(Message):
    per_hour: Amount | None = None
    per_month: Amount | None = None
    room: int | None = None  # nodes that it is there for beside those there are; None: no limit
    warning: str = ""  # why nothing more is launched, and what to do; empty: it is


class MoneyNow(Message):
    """What a console shows beside the nodes."""

    currency: str
    node_hour: Amount
    hour: Amount  # what it costs now, an hour
    known: bool  # False: some edge's egress is not, and it is more
    month: Amount  # what was spent of it
    per_hour: Amount | None = None  # the budget
    per_month: Amount | None = None
    warning: str = ""  # as of BudgetView


class CostView(Message):
    """`GET /api/v1/cost`."""

    at: float
    prices: PricesView
    now: CostNow
    today: CostSpan
    month: CostSpan
    asked: CostSpan | None = None  # the time that was asked about, where it was
    event: str | None = None  # or the event, by its name: ev-7
    forecast: Forecast  # to the end of the month, or of the event
    budget: BudgetView
