"""Who came to which node, in order: what the nodes themselves hold, to be held against what was promised.

A party **could have been whole** when some node had room for all of it at the moment its first member was
seated. Counted with it is the room of parties that were seated before and have not all come yet; that is the
room a stream manager may give to nobody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Parties:
    """Of how many: all on one node; on several; on several although there was room on one."""

    whole: int
    split: int
    could_have_been_whole: int


@dataclass
class Ledger:
    most: dict[str, int] = field(default_factory=dict)  # node -> viewers at once, at most
    nodes: dict[str, str] = field(default_factory=dict)  # session -> its node; those that left, too
    _happened: list[tuple[str, str | None, int]] = field(default_factory=list)  # node, party, +1 or -1
    _parties: dict[str, str | None] = field(default_factory=dict)  # session -> party

    def came(self, node: str, session: str, party: str | None, viewers: int) -> None:
        """A viewer, who makes them so many."""
        self.most[node] = max(self.most.get(node, 0), viewers)
        self.nodes[session] = node
        self._parties[session] = party
        self._happened.append((node, party, 1))

    def left(self, node: str, session: str) -> None:
        self._happened.append((node, self._parties[session], -1))

    def overfilled(self, capacity: Mapping[str, int]) -> list[str]:
        """Nodes that had more viewers than they take."""
        return sorted(name for name, most in self.most.items() if most > capacity.get(name, 0))

    def parties(self, size: int, capacity: Mapping[str, int]) -> Parties:
        """What became of them; `size` is that of each."""
        free = dict(capacity)
        home: dict[str, str] = {}
        to_come: dict[str, int] = {}  # party -> seats that are kept for it
        split: dict[str, bool] = {}  # party -> whether it could have been whole
        had_room: dict[str, bool] = {}
        for node, party, change in self._happened:
            if party is not None and change > 0 and party not in home:
                home[party] = node
                had_room[party] = max(free.values(), default=0) >= size
                to_come[party] = min(size, free[node]) if free[node] > 0 else 1
                free[node] -= to_come[party]
            if party is None or change < 0:
                free[node] -= change
            elif node != home[party]:
                split[party] = had_room[party]
                free[node] -= 1
            elif to_come[party] > 0:
                to_come[party] -= 1
            else:
                free[node] -= 1
        return Parties(len(home) - len(split), len(split), sum(split.values()))
