"""What an error of the server, or of the way to it, means for the transaction it came in.

    AWAY      the connection is lost, or the server is not there, shuts down, takes no more of us, or may not
              be written because another one is the writer now: what was not being committed is gone, and the
              whole transaction is done again on a new connection
    AGAIN     a deadlock, a lock that was waited for long enough, a row that has changed meanwhile, a
              statement that took too long: the whole transaction is done again
    REFUSED   the server does not take our word, or has no such database: as AWAY, and somebody has to act
    FULL      there is no room to write
    TAKEN     a row with this key exists: where that is not an answer, somebody has made it since we looked,
              and doing the transaction again will find it
    None      anything else: a bug of ours

Numbers are those of MySQL's "Server Error Message Reference" and "Client Error Message Reference", and of
MariaDB's "Error Codes".
"""

import asyncio
import enum

from asyncmy import errors
from sqlalchemy.exc import DBAPIError


class Fault(enum.Enum):
    AWAY = enum.auto()
    AGAIN = enum.auto()
    REFUSED = enum.auto()
    FULL = enum.auto()
    TAKEN = enum.auto()


_AWAY = (
    *(2002, 2003, 2005, 2006, 2012, 2013, 2026, 2027, 2055),  # of the client's side
    *(1040, 1203, 1226),  # too many connections
    *(1053, 1077, 1079, 1927, 4031),  # shutting down, connection killed, closed for its silence
    *(1152, 1158, 1159, 1160, 1161),  # broken while it was spoken to
    *(1290, 1836),  # read-only
    1047,  # a node of a Galera cluster that is not ready
)
_AGAIN = (
    *(1205, 1213, 1020),  # lock time-out, deadlock, record has changed since last read
    *(1317, 1969, 3024),  # interrupted, MariaDB's and MySQL's time limit of a statement
    *(1206, 1412, 1615),  # no room for locks, a table that has just been altered
)
_REFUSED = (1044, 1045, 1049, 1129, 1130, 1142, 1143, 1251, 1698, 1820, 1862, 3118, 3159, 4151)
_FULL = (3, 1021, 1026, 1030, 1114)
_TAKEN = (1022, 1062, 1586)

_OF: dict[int, Fault] = {
    number: fault
    for fault, numbers in (
        (Fault.AWAY, _AWAY),
        (Fault.AGAIN, _AGAIN),
        (Fault.REFUSED, _REFUSED),
        (Fault.FULL, _FULL),
        (Fault.TAKEN, _TAKEN),
    )
    for number in numbers
}


def of(error: BaseException) -> Fault | None:
    """The fault that an exception of the driver's, of SQLAlchemy's, or of the loop's stands for."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return Fault.AWAY
        if error.orig is not None:
            return of(error.orig)
    if isinstance(error, errors.MySQLError):
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if number is None:  # the driver's own words: of a connection that is closed, of a packet out of order
            return Fault.AWAY if isinstance(error, errors.InterfaceError | errors.InternalError) else None
        return _OF.get(number)
    if isinstance(error, OSError | EOFError | asyncio.IncompleteReadError):  # TimeoutError is an OSError
        return Fault.AWAY
    return None


def words(error: BaseException) -> str:
    """What the server or the system said, without statement, parameters or address of a web page."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, errors.MySQLError) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__
