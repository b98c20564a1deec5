"""How long a launch takes: measured on the nodes that came up here, or supposed until one has."""

from collections import OrderedDict
from dataclasses import dataclass

from controlplane.domain.nodes.model import Group
from controlplane.domain.streams.rules import percentile
from controlplane.services.books import Changed
from controlplane.services.words import counted
from controlplane.wire.nodes import Role

KEPT = 50  # launches of a group: the last ones
HIGH = 0.95
LONGEST_LAUNCH_S = 1800.0  # by the wall clock, which may have been set


@dataclass(frozen=True, slots=True)
class LaunchTime:
    seconds: float
    measured: int  # launches it was taken from; none: it is supposed

    def words(self) -> str:
        """As in: 41 s, as 12 launches took (95th percentile)"""
        if not self.measured:
            return f"{self.seconds:g} s, supposed ([fleet] launch_s): none was measured yet"
        return (
            f"{self.seconds:.1f} s, as {counted(self.measured, 'launch', 'launches')} "
            f"took ({HIGH * 100:.0f}th percentile)"
        )


class Launches:
    """A listener of the books (services.books.Listener): each node counts when it is first in service."""

    def __init__(self, supposed_s: float) -> None:
        self._supposed = supposed_s
        self._took: dict[tuple[Role, str], OrderedDict[tuple[str, float], float]] = {}

    def changed(self, changed: Changed) -> None:
        for node in changed.nodes.values():
            if node.managed and node.in_service_at is not None:
                took = min(max(0.0, node.in_service_at - node.created_at), LONGEST_LAUNCH_S)
                of_group = self._took.setdefault((node.role, node.region), OrderedDict())
                of_group.setdefault((node.id, node.created_at), took)
                while len(of_group) > KEPT:
                    of_group.popitem(last=False)

    def time(self, group: Group) -> LaunchTime:
        took = list(self._took.get((group.role, group.region), {}).values())
        high = percentile(took, HIGH)
        return LaunchTime(self._supposed, 0) if high is None else LaunchTime(high, len(took))
