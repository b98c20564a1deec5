"""The dialog that adds a node: what there will be, what it costs, and what the budget says to it."""

from dataclasses import dataclass

from console.core.effects import beyond_max, effect_of_add
from console.screens.shared import costs
from console.screens.shared.dialog import CANCEL, Choice, Dialog
from console.screens.shared.view import View
from console.screens.shared.words import Line
from controlplane.wire.money import hourly, money
from controlplane.wire.nodes import Role


@dataclass(frozen=True, slots=True)
class Add:
    role: Role
    over_budget: bool


class AddDialog(Dialog[Add]):
    """Where the budget is used up, nothing but the words "over the budget" does it."""

    def __init__(self, view: View, role: Role, refused: str = "") -> None:
        """`refused`: the manager's words, where it has said no to one within the budget."""
        self._role = role
        warning = refused or ("" if view.state.money is None else view.state.money.warning)
        self._over = bool(warning)
        act = Choice("over", "Add over the budget", "danger") if warning else Choice("add", "Add")
        super().__init__(f"Add an {role}", add_lines(view, role, warning), [CANCEL, act])

    async def chosen(self, choice: str) -> None:
        self.dismiss(Add(self._role, over_budget=choice == "over"))


def add_lines(view: View, role: Role, warning: str) -> list[Line]:
    """The effect, the cost, and the budget in words."""
    effect = effect_of_add(view.nodes, role)
    what = "viewers" if role is Role.EDGE else "broadcasts"
    lines: list[Line] = [[(f"{effect}.", "bold")], [(f"It takes {what} when it is in service.", "")]]
    now = view.state.money
    if now is not None:
        more, after = hourly(now.node_hour, now.currency), money(now.hour + now.node_hour, now.currency)
        at_least = "" if now.known else " at least"
        limit = "" if now.per_hour is None else f" of {money(now.per_hour, now.currency)}"
        then = f": {money(now.hour, now.currency)} -> {after}{at_least}{limit} an hour in all."
        lines.append([("It costs ", ""), (more, "bold"), (then, "")])
        if now.per_month is not None:
            lines.append([("Spent: ", ""), *costs.spent(now)])
    if beyond := beyond_max(view.state.groups.values(), role):
        words = f"▲ {beyond[:1].upper()}{beyond[1:]}: one more is refused. "
        force = f"`showcaller fleet add {role} --over-policy` adds it all the same."
        lines.append([(words, "bold $warn"), (force, "")])
    if warning:
        lines.append([("▲ ", "bold $warn"), (warning, "bold $warn")])
        over = "It can be added all the same: the budget is then exceeded, and the journal says by whom."
        lines.append([(over, "")])
    return lines
