"""When to follow a peer to another address (NAT rebinding; a phone that changes networks). Pure decisions.

A lite agent sends where its peer nominated. Two things can change under it: a NAT gives the peer's packets
another port (or address) without the peer knowing, and a peer begins to use another of its own addresses.
What is seen of it here:

    a nominating check (USE-CANDIDATE) from elsewhere    the peer says so itself
    any other check, or media, from elsewhere            the peer is there; is it still at the old address?

Neither is proof by itself. A check has no replay protection: who has recorded one can send it again with any
source address, a victim's for example. Media has, but a copy may overtake its original. So a **question** is
asked, a binding request of ours under the peer's own password, which only the peer can answer, and only from
where it receives (as RFC 9000 section 8.2 validates a path):

    nominated    the new address is asked; its answer moves us
    otherwise    both addresses are asked; we move when the new one has answered and the old one, with twice
                 as long for it and a resend, has not

Until then media goes where it went. There is one doubt at a time, with three questions to an address, and a
rest after one that came to nothing: whoever provokes them gains no more than a few small datagrams a second.
RFC 8445 has lite agents make no checks of their own; these change no check list, and a full peer answers any
authentic request (section 7.3).
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from media.core.address import Address

PATIENCE: Final = 1.5  # seconds the new address has to answer
ENOUGH: Final = 0.5  # seconds the old one has at least
ASK_AGAIN: Final = 0.25  # the first time; twice as long each time after
IN_FLIGHT: Final = 0.25  # seconds in which the old address's last packets may still arrive
REST: Final = 1.0  # seconds from a doubt that came to nothing to the next one


class Verdict(Enum):
    WAIT = "wait"  # nothing is decided yet, or nothing is in doubt
    MOVE = "move"  # send to the new address from now on
    STAY = "stay"  # the peer is still where it was
    UNPROVEN = "unproven"  # the new address did not answer


@dataclass(slots=True)
class _Doubt:
    """Whether the peer is at `new` rather than at `old`."""

    old: Address
    new: Address
    since: float
    nominated: bool
    ask_at: float
    ask_again: float = ASK_AGAIN
    proven_at: float | None = None  # when `new` first answered
    asked: set[tuple[Address, bytes]] = field(default_factory=set)  # with the transaction; a few

    @property
    def verdict_at(self) -> float:
        if self.proven_at is None:
            return self.since + PATIENCE
        return self.since + min(PATIENCE, max(ENOUGH, 2 * (self.proven_at - self.since)))


class Following:
    """The doubts about one peer's address, one at a time. Nothing is in doubt before `settle`."""

    __slots__ = ("_doubt", "_rest_until", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._doubt: _Doubt | None = None
        self._rest_until = 0.0

    @property
    def new(self) -> Address | None:
        """The address in question."""
        return None if self._doubt is None else self._doubt.new

    def settle(self) -> None:
        """The DTLS handshake is done: the peer receives what is sent to the selected address."""
        self.settled = True

    def moved(self) -> None:
        """Another address is the selected one now."""
        self._doubt = None

    def doubt(self, old: Address, new: Address, now: float, *, nominated: bool) -> Verdict:
        """Something authentic came from `new`; `old` is selected. Send what `due` gives."""
        current = self._doubt
        if current is not None and current.new == new:
            current.nominated = current.nominated or nominated
            return Verdict.MOVE if current.nominated and current.proven_at is not None else Verdict.WAIT
        if not self.settled or (now < self._rest_until and not nominated):
            return Verdict.WAIT
        if current is None or (nominated and not current.nominated):
            self._doubt = _Doubt(old, new, now, nominated, ask_at=now)
        return Verdict.WAIT

    def old_heard(self, now: float) -> None:
        """Something authentic came from the selected address."""
        doubt = self._doubt
        # What was on its way when the peer moved is no sign.
        if doubt is not None and now > doubt.since + IN_FLIGHT:
            self._old_is_there(doubt, now)

    def is_answer(self, address: Address, transaction: bytes) -> bool:
        """Whether this answers a question of ours, if it is authentic."""
        return self._doubt is not None and (address, transaction) in self._doubt.asked

    def answered(self, address: Address, now: float) -> Verdict:
        """An authentic answer came from an address that was asked."""
        doubt = self._doubt
        if doubt is None:
            return Verdict.WAIT
        if address == doubt.old:
            return self._old_is_there(doubt, now)
        if doubt.proven_at is None:
            doubt.proven_at = now
        return Verdict.MOVE if doubt.nominated else Verdict.WAIT

    def _old_is_there(self, doubt: _Doubt, now: float) -> Verdict:
        if doubt.nominated:
            return Verdict.WAIT  # the peer itself wants to leave it
        self._doubt = None
        self._rest_until = now + REST
        return Verdict.STAY

    def due(self, now: float) -> tuple[Address, ...]:
        """Whom to ask now; tell `sent` of each."""
        doubt = self._doubt
        if doubt is None or now < doubt.ask_at:
            return ()
        doubt.ask_at = now + doubt.ask_again
        doubt.ask_again *= 2
        return (doubt.new,) if doubt.nominated else (doubt.new, doubt.old)

    def sent(self, address: Address, transaction: bytes) -> None:
        if self._doubt is not None:
            self._doubt.asked.add((address, transaction))

    def next_timeout(self) -> float | None:
        doubt = self._doubt
        return None if doubt is None else min(doubt.ask_at, doubt.verdict_at)

    def handle_timeout(self, now: float) -> Verdict:
        """The verdict when the time for it has come; then nothing is in doubt any more."""
        doubt = self._doubt
        if doubt is None or now < doubt.verdict_at:
            return Verdict.WAIT
        self._doubt = None
        if doubt.proven_at is not None:
            return Verdict.MOVE
        self._rest_until = now + REST
        return Verdict.UNPROVEN
