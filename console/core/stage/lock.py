"""The lock of a home: held by the stage's supervisor from before its first moment until its end.

Whoever starts a supervisor takes the lock and hands it on: the lock belongs to the open file, which the new
process inherits (flock(2)), so there is no moment in which a supervisor is on its way and the lock is free.
"""

import fcntl
import os

from console.core.paths import Home


def take_lock(home: Home) -> int | None:
    """The lock, held until every copy of this descriptor is closed; None when somebody else holds it."""
    handle = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def is_lock(home: Home, handle: int) -> bool:
    """Whether this descriptor, said to have been inherited, is the lock's file."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(home.lock))
    except OSError:
        return False
