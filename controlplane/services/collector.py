"""Python's garbage collector in a stream manager: never in the middle of a storm of joins.

A full collection looks at every object there is and nothing else runs meanwhile: with 50,000 viewers known
that is a tenth of a second of CPU (docs/decisions/0036), on a busy machine much longer by the clock, and
while they come there is one for each quarter more of them. What it finds are circles of objects that nobody
holds any more, as connections leave some behind when they close; all others are given back as soon as they
are let go. So the two young generations are collected as ever, and all of it when nobody watches any more,
or after a while when nobody is joining just then.
"""

import gc

from controlplane.ports.clock import Clock

NEVER = 1_000_000  # times ten thousand new objects
CALM_AFTER_S = 600.0  # since the last one: where nobody is joining
ANYHOW_AFTER_S = 3600.0


def spare_the_joins() -> None:
    """To be called once, when everything has been loaded: that is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], NEVER)


class Collector:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._collected_at = clock.monotonic()
        self._watched = False

    def look(self, *, watching: int, joining: int) -> bool:
        """Collect all of it if this is the moment: with so many who watch and who are joining. To be called
        once a second. Whether it was; never where Python still does it by itself."""
        if gc.get_threshold()[2] != NEVER:
            return False
        age = self._clock.monotonic() - self._collected_at
        over, self._watched = self._watched and not watching, bool(watching)
        if not over and age < (ANYHOW_AFTER_S if joining else CALM_AFTER_S):
            return False
        gc.collect()
        self._collected_at = self._clock.monotonic()
        return True
