"""How much to send: the bitrate that was asked for, or less when the path shows that it cannot carry it.

Receivers estimate the path and say so by REMB, but an estimate below the present bitrate is by itself no
sign of trouble: estimators start low, and a busy receiver sees delays that the network never had. A
broadcaster who asked for 4.5 Mbps gets 4.5 Mbps until the path complains in a way viewers would notice:

- loss: 2 % or more in the receiver reports, smoothed; or
- delay: a round trip 150 ms above the shortest one seen (packets queue up somewhere).

Then the newest estimate is followed down, but not below half of what was asked; only when 10 % and more are
lost it may go on to a tenth. Without an estimate (a server that sends no REMB) loss alone lowers it by a
tenth a second. After five quiet seconds it grows by 8 % a second until it is whole again.

Pure: `now` is an argument.
"""

_LOSS, _HEAVY_LOSS = 0.02, 0.10
_QUEUEING_S = 0.15
_ESTIMATE_LIVES_S = 5.0
_QUIET_S = 5.0
_GROWTH = 1.08
_SMOOTH = 0.3


class Rate:
    def __init__(self, asked_bps: float) -> None:
        self.asked_bps = asked_bps
        self.target_bps = asked_bps
        self._loss = 0.0
        self._rtt: float | None = None
        self._least_rtt: float | None = None
        self._estimate: tuple[float, float] | None = None  # bits per second, when
        self._trouble_at: float | None = None

    def on_estimate(self, bps: float, now: float) -> None:
        """A REMB from the receiver."""
        self._estimate = (bps, now)

    def on_report(self, lost: float, rtt: float | None, now: float) -> None:
        """A receiver report: the fraction lost since the one before, the round trip in seconds."""
        self._loss += _SMOOTH * (lost - self._loss)
        if rtt is not None:
            self._rtt = rtt if self._rtt is None else self._rtt + _SMOOTH * (rtt - self._rtt)
            self._least_rtt = rtt if self._least_rtt is None else min(self._least_rtt, rtt)

    def on_new_path(self) -> None:
        """A new connection: what was known of the old path is worth nothing."""
        self._loss, self._rtt, self._least_rtt, self._estimate = 0.0, None, None, None

    def step(self, now: float) -> float:
        """Once a second: the target from now on."""
        queueing = (
            self._rtt is not None
            and self._least_rtt is not None
            and self._rtt > self._least_rtt + _QUEUEING_S
        )
        if self._loss >= _LOSS or queueing:
            self._trouble_at = now
            floor = self.asked_bps * (0.1 if self._loss >= _HEAVY_LOSS else 0.5)
            wanted = self.target_bps
            if self._estimate is not None and now - self._estimate[1] < _ESTIMATE_LIVES_S:
                wanted = min(wanted, self._estimate[0])
            elif self._loss >= _LOSS:
                wanted *= 0.9
            self.target_bps = min(self.target_bps, max(floor, wanted))
        elif self._trouble_at is None or now - self._trouble_at >= _QUIET_S:
            self.target_bps = min(self.asked_bps, self.target_bps * _GROWTH)
        return self.target_bps
