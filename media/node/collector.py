"""Python's garbage collector in a worker: never in the way of a frame.

A full collection looks at every object there is, and holds up every packet meanwhile: 20 ms in a worker with
300 viewers, and in proportion. What it would find are circles of objects that nobody holds any more; all
others are given back as soon as they are let go. Our own code leaves no circles behind, whoever comes and
goes (tests/media/recovery/test_nothing_is_left_to_collect.py). So the two young generations are collected as
ever, a millisecond at a time, and all of it only when the worker serves nobody.
"""

import gc

NEVER = 1_000_000  # times ten thousand new objects


def spare_the_packets() -> None:
    """To be called once, when everything has been loaded: that is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], NEVER)


class Collector:
    """Collects all of it when the sessions of before have gone."""

    def __init__(self) -> None:
        self._served = False

    def look(self, sessions: int) -> None:
        """To be called now and then with the number of sessions there are."""
        if sessions:
            self._served = True
        elif self._served:
            self._served = False
            gc.collect()
