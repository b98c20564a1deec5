"""State machines as data: a table of transitions, each with its reason, and nothing hidden in code.

A machine says which states there are and what each means, and which moves between them are allowed and why
they happen. `check` is the only question services ask; the diagrams in docs/ are drawn from the same table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)


class IllegalMove(Exception):
    """Something tried to move an object along no transition of its machine."""

    def __init__(self, machine: str, subject: str, start: str, end: str) -> None:
        super().__init__(f"{machine} {subject} cannot go from {start} to {end}.")
        self.machine = machine
        self.subject = subject
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Transition(Generic[S]):
    start: S
    end: S
    why: str  # when this happens, in a few words


class Machine(Generic[S]):
    """A named table of states and transitions."""

    def __init__(
        self, name: str, *, initial: S, meanings: Mapping[S, str], transitions: Iterable[tuple[S, S, str]]
    ) -> None:
        self.name = name
        self.initial = initial
        self.meanings = dict(meanings)
        self.transitions = tuple(Transition(*row) for row in transitions)
        self._allowed = {(t.start, t.end): t for t in self.transitions}

    def allows(self, start: S, end: S) -> bool:
        return (start, end) in self._allowed

    def check(self, subject: str, start: S, end: S) -> Transition[S]:
        """The transition from `start` to `end`; IllegalMove when there is none."""
        try:
            return self._allowed[start, end]
        except KeyError:
            raise IllegalMove(self.name, subject, start, end) from None

    def final(self) -> frozenset[S]:
        """The states that nothing leaves."""
        return frozenset(self.meanings) - {t.start for t in self.transitions}

    def mermaid(self) -> str:
        """The machine as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {t.start} --> {t.end}: {t.why}" for t in self.transitions]
        lines += [f"    {state} --> [*]" for state in self.meanings if state in self.final()]
        return "\n".join(lines)
