"""Drills as whoever begins one sees them: kill something on purpose, and measure how the stage recovers.

`Rehearsal` does it, for the command and the screens alike; `recovery` decides, without any input or output,
what of the recovery has happened; `watching` is the viewer that tells what a viewer saw; `victim` is the
stream manager of this machine, which nobody but this machine can kill.
"""

from console.core.drills.rehearsal import Rehearsal, Result

__all__ = ["Rehearsal", "Result"]
