"""ICE (RFC 8445) from both sides of our own traffic, with consent (RFC 7675).

`IceLite` is the side every node answers with: it makes no checks, it is checked. A binding request whose
USERNAME and MESSAGE-INTEGRITY fit validates its source address; the last address that came with
USE-CANDIDATE is where we send. Everything else is dropped without an answer, so a forger learns nothing,
moves nothing, and is never sent a byte. How it follows a peer whose address changes stands in `following`.

*What a lite side does not know by itself is whether what it sends arrives.* Whoever has made a session knows
its password, and could put somebody else's address on a check: the whole stream would go there. So an address
has to be reached before much is sent to it. Until DTLS is done, at most AMPLIFICATION times what came from an
address is sent to it (as RFC 9000 section 8.1 has it); a handshake that ends has reached the address its
flights went to, if that was one. In any other case the address must have answered a question of ours.

An ICE restart (RFC 8445 section 9) brings a second pair of credentials. Both are good until the first
authentic check under the new one; then the old pair is forgotten, while the address in use stays in use until
the peer nominates another, or is gone from it.

`IceControlling` is the side of an edge that subscribes to an origin: it checks the candidates of the answer,
paced by Ta, nominates the best that answered, then goes on checking the chosen one: that is consent, and the
measure of the round trip. RFC 8445 section 8.1.1: regular nomination, as a lite peer demands.

Both are driven alike: `receive`, `handle_timeout`, then drain `outgoing`; `next_timeout` says when again.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from media.core import stun
from media.core.address import Address
from media.core.description import Candidate, IceCredentials
from media.core.errors import IntegrityError, ParseError
from media.core.following import Following, Verdict

MAX_VALIDATED: Final = 8  # addresses a peer may hold open at once
AMPLIFICATION: Final = 3  # bytes to an address that was not reached yet, for each byte from it
ASK_AGAIN: Final = 0.2  # seconds between two questions whether the peer is there
STALE: Final = 5.0  # seconds after which a silent selected address yields to one that checks
TA: Final = 0.05  # pacing of first checks
RTO: Final = 0.25  # first wait for an answer; doubles with each resend
MAX_RTO: Final = 1.0
MAX_SENDS: Final = 12
CONSENT_INTERVAL: Final = 2.5  # RFC 7675 allows 5 s and less; the round trip is measured by it too


@dataclass(frozen=True, slots=True)
class IceState:
    """How far ICE has come, for support: addresses, and nothing that lets anybody in."""

    controlling: bool
    nominated: bool  # by the peer, or by us of a lite one
    reached: bool  # something of ours is known to have arrived at the selected address
    valid: tuple[tuple[Address, float | None], ...]  # and how long ago it was heard from; None: not kept
    moving_to: Address | None  # the peer may have moved there: it is being asked


class _Pair:
    """Credentials of both sides, and what is made of them for each message."""

    __slots__ = ("expected", "key", "local", "remote", "remote_key")

    def __init__(self, local: IceCredentials, remote: IceCredentials) -> None:
        self.local = local
        self.remote = remote
        self.key = local.password.encode()
        self.remote_key = remote.password.encode()
        self.expected = f"{local.ufrag}:{remote.ufrag}"  # USERNAME of what is sent to us


class IceAgent(ABC):
    """What a session sees of either side."""

    def __init__(self, local: IceCredentials, remote: IceCredentials) -> None:
        self._pairs: tuple[_Pair, ...] = (
            _Pair(local, remote),
        )  # while a restart is under way two: the one in use, the new one
        self.outgoing: deque[tuple[bytes, Address]] = deque()
        self.selected: Address | None = None
        self.last_heard: float | None = None  # when the peer last showed its consent
        self.rtt: float | None = None
        #: the last check that was answered by success, from where, and under which credentials
        self._precedent: tuple[stun.Precedent, Address, _Pair] | None = None

    @property
    def pairs(self) -> "tuple[_Pair, ...]":
        """The credentials a check may come with: the pair in use, and that of a restart under way."""
        return self._pairs

    @abstractmethod
    def is_valid(self, address: Address) -> bool:
        """Whether this address has shown that it knows our password."""

    @abstractmethod
    def state(self, now: float) -> IceState: ...

    def receive(self, datagram: bytes, source: Address, now: float) -> bool:
        """Take a STUN datagram; True when it was authentic. Anything else changes nothing."""
        try:
            if self._precedent is not None:
                precedent, from_there, under = self._precedent
                if source == from_there and under is self._pairs[0]:
                    answer = precedent.answer(datagram)
                    if answer is not None:
                        self.outgoing.append((answer, source))
                        self._checked(precedent.request, source, now)
                        return True
            message = stun.Message.parse(datagram)
            if message.kind is stun.Class.REQUEST:
                pair = next((pair for pair in self._pairs if pair.expected == message.username), None)
                if pair is None or not message.fingerprint_at:
                    return False
                message.verify(pair.key)
                self._answer(message, pair, source, now)
                return True
            if message.kind is stun.Class.INDICATION:
                return False
            return self._answered(message, source, now)
        except (ParseError, IntegrityError):
            return False

    def again(self, datagram: bytes, source: Address, now: float) -> bytes | None:
        """The answer to a check that only says that the peer is still there: the short way for most of them.

        None, and nothing is changed: it is anything else, hand it to `receive`. Raises IntegrityError.
        """
        return None

    def _answer(self, request: stun.Message, pair: "_Pair", source: Address, now: float) -> None:
        unknown = request.unknown_required()
        if unknown:
            self._reply(stun.error(request, stun.UNKNOWN_ATTRIBUTE, "Unknown Attribute"), pair, source)
        elif self._in_conflict(request):
            self._reply(stun.error(request, stun.ROLE_CONFLICT, "Role Conflict"), pair, source)
        else:
            there = (source[0], source[1])
            self.outgoing.append((stun.success(request.transaction, there, pair.key), source))
            if pair is not self._pairs[0]:
                self._pairs = (pair,)  # the peer has the new credentials: the old ones are of no use any more
            usual = stun.Precedent.is_usual(request)
            precedent = stun.Precedent(request, there, pair.key) if usual else None
            self._precedent = None if precedent is None else (precedent, source, pair)
            self._checked(request, source, now)

    def _reply(self, response: stun.Message, pair: "_Pair", to: Address) -> None:
        self.outgoing.append((response.to_bytes(pair.key), to))

    @abstractmethod
    def _in_conflict(self, request: stun.Message) -> bool:
        """Whether the peer believes to have the role that is ours (RFC 8445 section 7.3.1.1)."""

    @abstractmethod
    def _checked(self, request: stun.Message, source: Address, now: float) -> None:
        """An authentic binding request came from this address."""

    def _answered(self, response: stun.Message, source: Address, now: float) -> bool:
        return False

    @property
    def reached(self) -> bool:
        """Whether the selected address is known to be reached: media may go there."""
        return True

    def use(self, address: Address, size: int) -> None:  # noqa: B027 only the controlled side follows its peer
        """DTLS of `size` bytes came from this valid address: send there until the peer nominates."""

    def afford(self, size: int) -> bool:
        """Whether `size` more bytes of a handshake may go to the selected address; they count as sent."""
        return True

    def settle(self, now: float, *, reached: bool) -> None:  # noqa: B027 only the controlled side follows
        """DTLS is done with the selected address: from now on moving away from it is a matter of proof.
        `reached`: all our flights went there, so the peer has them from there."""

    @abstractmethod
    def ask(self, now: float) -> bool:
        """Have the peer show that it is still there, by an answer that only it can give.

        False: it was not asked now, as it has just been, or cannot be yet.
        """

    def heard(self, address: Address, now: float) -> None:  # noqa: B027 only the controlled side follows
        """Something else that is authentic (media) came from this valid address."""

    def stray(self, address: Address, now: float) -> None:  # noqa: B027 only the controlled side follows
        """The peer's authentic media came from this address, which is not valid."""

    def lost(self, address: Address, now: float) -> None:  # noqa: B027 only the controlled side has such peers
        """This address is no more: its TCP connection has closed."""

    def handle_timeout(self, now: float) -> None:  # noqa: B027 not every side has timers
        """The moment of `next_timeout()` has come."""

    def next_timeout(self) -> float | None:
        return None

    @property
    def failed(self) -> bool:
        """Whether nothing can come of it any more."""
        return False


class IceLite(IceAgent):
    """The controlled, lite side."""

    def __init__(self, local: IceCredentials, remote: IceCredentials, random: Callable[[int], bytes]) -> None:
        super().__init__(local, remote)
        self._random = random
        self._validated: dict[Address, float] = {}  # address -> last time anything authentic came from it
        self._nominated = False
        self._following = Following()
        self._credit: dict[Address, int] = {}  # bytes of DTLS that may still go there; until it is done
        self._reached = False
        self._question: tuple[Address, bytes] | None = None  # to the selected address, with its transaction
        self._asked_at = float("-inf")
        self._lost: Address | None = None  # was selected, and its connection has closed

    def is_valid(self, address: Address) -> bool:
        return address in self._validated

    def state(self, now: float) -> IceState:
        return IceState(
            controlling=False,
            nominated=self._nominated,
            reached=self._reached,
            valid=tuple((address, now - at) for address, at in self._validated.items()),
            moving_to=self._following.new,
        )

    def restart(self, local: IceCredentials, remote: IceCredentials) -> None:
        """Take these credentials too, in place of an earlier restart's that nobody used."""
        self._pairs = (self._pairs[0], _Pair(local, remote))

    @property
    def reached(self) -> bool:
        return self._reached

    def use(self, address: Address, size: int) -> None:
        if self._following.settled or address not in self._validated:
            return
        self._credit[address] = self._credit.get(address, 0) + AMPLIFICATION * size
        if not self._nominated:
            self.selected = address

    def afford(self, size: int) -> bool:
        if self._reached:
            return True
        if self.selected is None or self._credit.get(self.selected, 0) < size:
            return False
        self._credit[self.selected] -= size
        return True

    def settle(self, now: float, *, reached: bool) -> None:
        self._following.settle()
        self._reached = reached
        self._credit.clear()
        if not reached:
            self.ask(now)

    def ask(self, now: float) -> bool:
        if self.selected is None or now - self._asked_at < ASK_AGAIN:
            return False
        self._asked_at = now
        self._question = (self.selected, self._send_question(self.selected))
        return True

    def lost(self, address: Address, now: float) -> None:
        self._validated.pop(address, None)
        self._credit.pop(address, None)
        if address == self._following.new:
            self._following.moved()
        if address != self.selected:
            return
        self.selected, self._lost = None, address
        self._nominated = self._nominated and self._following.settled
        self._following.moved()
        if self._validated:
            self._take_up(max(self._validated, key=self._validated.__getitem__), now)
            self._ask(now)

    def _take_up(self, address: Address, now: float) -> None:
        """Nothing is selected: send to this valid address; with proof, where media went to one before."""
        if self._lost is None or not self._following.settled:
            self._select(address)
        else:
            self._doubt(self._lost, address, now, nominated=True)

    def again(self, datagram: bytes, source: Address, now: float) -> bytes | None:
        # From where we send, and nothing is open: all that `_checked` would do is to note the time.
        if self._precedent is None or not self._reached or self._following.new is not None:
            return None
        precedent, from_there, under = self._precedent
        if source != from_there or source != self.selected or under is not self._pairs[0]:
            return None
        answer = precedent.answer(datagram)
        if answer is not None:
            self._validated[source] = self.last_heard = now
        return answer

    def _in_conflict(self, request: stun.Message) -> bool:
        return request.controlled is not None  # a lite agent is always the controlled one

    def _checked(self, request: stun.Message, source: Address, now: float) -> None:
        self._admit(source, now)
        self._nominated = self._nominated or request.use_candidate
        if not self._following.settled:
            self._credit[source] = self._credit.get(source, 0) + AMPLIFICATION * len(request.raw)
        if source == self.selected:
            self._following.old_heard(now)
            if self._following.settled and not self._reached:
                self.ask(now)
        elif self.selected is None:
            self._take_up(source, now)
        elif request.use_candidate and not self._following.settled:
            self._select(source)
        elif self._following.settled:
            self._doubt(self.selected, source, now, nominated=request.use_candidate)
        elif self._is_stale(now):
            self._select(source)

    def heard(self, address: Address, now: float) -> None:
        self._validated[address] = now
        if address == self.selected:
            self._following.old_heard(now)
        elif self.selected is not None:
            self._doubt(self.selected, address, now, nominated=False)

    def stray(self, address: Address, now: float) -> None:
        if self.selected is not None:
            self._doubt(self.selected, address, now, nominated=False)

    def _doubt(self, old: Address, new: Address, now: float, *, nominated: bool) -> None:
        if self._following.doubt(old, new, now, nominated=nominated) is Verdict.MOVE:
            self._select(new)
        self._ask(now)

    def _answered(self, response: stun.Message, source: Address, now: float) -> bool:
        ours = (source, response.transaction) == self._question
        if not ours and not self._following.is_answer(source, response.transaction):
            return False
        response.verify(self._pairs[0].remote_key)
        self._admit(source, now)
        if ours:
            self._question = None
            self._reached = self._reached or source == self.selected
            if source == self.selected:
                self._following.old_heard(now)
        elif self._following.answered(source, now) is Verdict.MOVE:
            self._select(source)
        return True

    def handle_timeout(self, now: float) -> None:
        new = self._following.new
        verdict = self._following.handle_timeout(now)
        if verdict is Verdict.MOVE and new is not None:
            self._select(new)
        self._ask(now)

    def next_timeout(self) -> float | None:
        return self._following.next_timeout()

    def _is_stale(self, now: float) -> bool:
        """Whether nothing authentic has come from the selected address for long."""
        return self.selected is not None and now - self._validated.get(self.selected, now) > STALE

    def _select(self, address: Address) -> None:
        self.selected, self._lost = address, None
        self._reached = self._following.settled  # from then on by an answer alone
        self._following.moved()

    def _admit(self, address: Address, now: float) -> None:
        if address not in self._validated and len(self._validated) >= MAX_VALIDATED:
            kept = (self.selected, self._following.new)
            others = [known for known in self._validated if known not in kept]
            oldest = min(others, key=self._validated.__getitem__)
            del self._validated[oldest]
            self._credit.pop(oldest, None)
        self._validated[address] = self.last_heard = now

    def _ask(self, now: float) -> None:
        """Send the questions that are due (see `following`)."""
        for address in self._following.due(now):
            self._following.sent(address, self._send_question(address))

    def _send_question(self, address: Address) -> bytes:
        """A binding request under the pair in use; returns its transaction id."""
        pair = self._pairs[0]
        transaction = self._random(12)
        attributes = (
            (stun.Attribute.USERNAME, f"{pair.remote.ufrag}:{pair.local.ufrag}".encode()),
            (stun.Attribute.ICE_CONTROLLED, bytes(8)),
            (stun.Attribute.PRIORITY, (126 << 24 | 65535 << 8 | 255).to_bytes(4, "big")),
        )
        request = stun.Message(stun.Class.REQUEST, transaction, attributes)
        self.outgoing.append((request.to_bytes(pair.remote_key), address))
        return transaction


@dataclass(slots=True)
class _Check:
    """One remote candidate and the transaction under way to it."""

    address: Address
    priority: int
    state: str = "waiting"  # -> in_progress -> succeeded | failed
    transaction: bytes = b""
    nominating: bool = False
    sent_at: float = 0.0
    resend_at: float | None = None
    sends: int = 0
    datagram: bytes = b""
    earlier: dict[bytes, float] = field(default_factory=dict)  # consent checks not answered yet -> sent at


class IceControlling(IceAgent):
    """The controlling, full side, for one local socket."""

    def __init__(
        self,
        local: IceCredentials,
        remote: IceCredentials,
        candidates: Sequence[Candidate],
        random: Callable[[int], bytes],
        now: float,
    ) -> None:
        super().__init__(local, remote)
        self._random = random
        self._tie_breaker = random(8)
        best_first = sorted(candidates, key=lambda it: -it.priority)
        addresses = dict.fromkeys((it.address, it.port) for it in best_first if it.component == 1)
        self._checks = [_Check(address, 0xFFFF - index) for index, address in enumerate(list(addresses)[:16])]
        self._next_pace: float | None = now
        self._next_consent: float | None = None
        self._chosen: _Check | None = None

    @property
    def failed(self) -> bool:
        return all(check.state == "failed" for check in self._checks)

    def is_valid(self, address: Address) -> bool:
        for check in self._checks:  # noqa: SIM110 asked for each packet, and `any` takes three times as long
            if check.address == address and check.state == "succeeded":
                return True
        return False

    def state(self, now: float) -> IceState:
        answered = tuple((check.address, None) for check in self._checks if check.state == "succeeded")
        return IceState(
            controlling=True,
            nominated=self.selected is not None,
            reached=self.selected is not None,
            valid=answered,
            moving_to=None,
        )

    def _in_conflict(self, request: stun.Message) -> bool:
        theirs = request.controlling
        return theirs is not None and int.from_bytes(self._tie_breaker, "big") >= theirs

    def _checked(self, request: stun.Message, source: Address, now: float) -> None:
        """A full peer may check us too; our own checks decide what is used."""

    def handle_timeout(self, now: float) -> None:
        if self._next_pace is not None and now >= self._next_pace:
            waiting = next((check for check in self._checks if check.state == "waiting"), None)
            if waiting is None:
                self._next_pace = None
            else:
                self._start(waiting, now)
                self._next_pace = now + TA
        for check in self._checks:
            if check.resend_at is None or now < check.resend_at:
                continue
            if check.sends >= MAX_SENDS:
                check.resend_at = None
                check.state = "failed"
                if check is self._chosen and self.selected is None:
                    self._chosen = None
                    self._nominate(now)
                continue
            self._send(check, now)
        if self._next_consent is not None and now >= self._next_consent and self._chosen is not None:
            self._consent(self._chosen, now)

    def next_timeout(self) -> float | None:
        moments = [check.resend_at for check in self._checks if check.resend_at is not None]
        moments += [moment for moment in (self._next_pace, self._next_consent) if moment is not None]
        return min(moments, default=None)

    def _request(self, check: _Check, nominate: bool) -> tuple[bytes, bytes]:
        transaction = self._random(12)
        attributes: list[tuple[int, bytes]] = [
            (stun.Attribute.USERNAME, f"{self._pairs[0].remote.ufrag}:{self._pairs[0].local.ufrag}".encode()),
            (stun.Attribute.ICE_CONTROLLING, self._tie_breaker),
            # type preference of a peer-reflexive candidate: RFC 8445 section 7.1.1
            (stun.Attribute.PRIORITY, (110 << 24 | check.priority << 8 | 255).to_bytes(4, "big")),
        ]
        if nominate:
            attributes.append((stun.Attribute.USE_CANDIDATE, b""))
        message = stun.Message(stun.Class.REQUEST, transaction, tuple(attributes))
        return transaction, message.to_bytes(self._pairs[0].remote_key)

    def _start(self, check: _Check, now: float, nominate: bool = False) -> None:
        check.transaction, check.datagram = self._request(check, nominate)
        check.nominating = nominate
        if not nominate:
            check.state = "in_progress"
        check.sends = 0
        self._send(check, now)

    def _send(self, check: _Check, now: float) -> None:
        self.outgoing.append((check.datagram, check.address))
        check.sent_at = now
        check.resend_at = now + min(RTO * 2**check.sends, MAX_RTO)
        check.sends += 1

    def ask(self, now: float) -> bool:
        if self._chosen is None or self.selected is None:
            return False
        self._consent(self._chosen, now)
        return True

    def _consent(self, check: _Check, now: float) -> None:
        transaction, datagram = self._request(check, nominate=False)
        check.earlier = {known: at for known, at in check.earlier.items() if now - at < 10}
        check.earlier[transaction] = now
        self.outgoing.append((datagram, check.address))
        jitter = 0.8 + 0.4 * self._random(1)[0] / 255  # RFC 7675 section 5.1
        self._next_consent = now + CONSENT_INTERVAL * jitter

    def _answered(self, response: stun.Message, source: Address, now: float) -> bool:
        for check in self._checks:
            if check.address != source:
                continue  # RFC 8445 section 7.2.5.2.1: an answer comes from where the request went
            if check.resend_at is not None and response.transaction == check.transaction:
                response.verify(self._pairs[0].remote_key)
                self.last_heard = now
                check.resend_at = None
                if response.kind is stun.Class.ERROR:
                    check.state = "failed"
                    if check is self._chosen:
                        self._chosen = None
                        self._nominate(now)
                    return True
                if check.sends == 1:  # Karn: the answer to a resend cannot be told from that to the first
                    self.rtt = now - check.sent_at
                check.state = "succeeded"
                if check.nominating:
                    self.selected = check.address
                    self._next_consent = now + CONSENT_INTERVAL
                    self._next_pace = None
                    for other in self._checks:
                        if other is not check:
                            other.resend_at = None
                else:
                    self._nominate(now)
                return True
            if response.transaction in check.earlier:
                response.verify(self._pairs[0].remote_key)
                sent_at = check.earlier.pop(response.transaction)
                if response.kind is stun.Class.ERROR:
                    return False  # no consent: the silence is counted by the session
                self.last_heard = now
                self.rtt = now - sent_at
                return True
        return False

    def _nominate(self, now: float) -> None:
        """Nominate the best that has answered, once; worse ones that answer later change nothing."""
        if self._chosen is not None:
            return
        self._chosen = next((check for check in self._checks if check.state == "succeeded"), None)
        if self._chosen is not None:
            self._start(self._chosen, now, nominate=True)
