"""What the stage costs, in a few words. Pure."""

from console.screens.shared.words import Line
from controlplane.wire.money import MoneyNow, money

MOST_SHARE = 0.9  # of the month's budget: from here on it is a warning


def line(now: MoneyNow | None, *, short: bool = False) -> Line:
    """ "$4.10/h  $11.00 of $50.00 this month, 22 %". Empty where it is not known."""
    if now is None:
        return []
    more = "" if now.known else "+"
    said: Line = [(f"{money(now.hour, now.currency)}/h{more}", "bold $warn" if now.warning else "bold")]
    if short:
        return said
    return [*said, *((f"  {text}", style) for text, style in spent(now))]


def spent(now: MoneyNow) -> Line:
    """ "$11.00 of $50.00 this month, 22 %"."""
    amount = money(now.month, now.currency)
    if now.per_month is None:
        return [(f"{amount} this month", "$muted")]
    share = float(now.month / now.per_month)
    of = f"{amount} of {money(now.per_month, now.currency)} this month, {share:.0%}".replace("%", " %")
    return [(of, "bold $warn" if share >= MOST_SHARE else "$muted")]


def fleet_line(now: MoneyNow | None) -> Line:
    """The same beside the nodes: where the budget is used up it says what that means there."""
    if now is None or not now.warning:
        return line(now)
    return [("▲ nothing more is launched   ", "bold $warn"), *line(now)]


def saves(now: MoneyNow | None) -> str:
    """What one node less saves an hour; empty where that is nothing, or not known."""
    return "" if now is None or not now.node_hour else money(now.node_hour, now.currency)
