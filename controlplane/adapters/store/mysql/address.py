"""Where a MySQL or MariaDB server is, and who asks it: from an address, a password from elsewhere, and TLS.

    mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE
    mysql://USER[:PASSWORD]@localhost/DATABASE?unix_socket=/run/mysqld/mysqld.sock

A password is never part of what this module prints: an Address is named by user, host and database alone.
"""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from controlplane.errors import StartError

SCHEMES = ("mysql", "mariadb")
PORT = 3306
SHAPE = "mysql://USER@HOST:3306/DATABASE"


@dataclass(frozen=True, slots=True)
class Address:
    user: str
    host: str
    port: int
    database: str
    password: str = field(default="", repr=False)
    unix_socket: str | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """For messages."""
        where = self.unix_socket or (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"
        return f"{self.database} at {where}"


def parse(
    url: str,
    *,
    password: str | None = None,
    password_file: Path | None = None,
    tls: str = "",
    tls_ca: Path | None = None,
) -> Address:
    """An address with the password that it has itself, or that of a file, or `password`: the first there is.

    `tls`: "verify" (the server's certificate is checked, by `tls_ca` or the system's authorities), "require"
    (encrypted, to whoever answers), "off"; "" is "off" to this very machine and "verify" to any other.
    Raises StartError; no message has the password in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its words may hold the whole address
        raise _unclear("it cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise _unclear("it begins with neither mysql:// nor mariadb://")
    database = unquote(parts.path.removeprefix("/"))
    if not parts.username or not parts.hostname or not database or "/" in database or parts.fragment:
        raise _unclear("user, host and database are all needed")
    if len(database) > 64 or "`" in database or "\0" in database:
        raise _unclear("its database has no name that MySQL knows")
    unix_socket = query.pop("unix_socket", None)
    if query:
        raise _unclear(f"{sorted(query)[0]!r} is no part of one; unix_socket is")
    if parts.password is not None:
        known = unquote(parts.password)
    elif password_file is not None:
        known = _from_file(password_file)
    else:
        known = password or ""
    near = unix_socket is not None or _is_loopback(parts.hostname)
    return Address(
        user=unquote(parts.username),
        host=parts.hostname,
        port=port or PORT,
        database=database,
        password=known,
        unix_socket=unix_socket,
        tls=None if unix_socket is not None else _context(tls or ("off" if near else "verify"), tls_ca),
    )


def _unclear(reason: str) -> StartError:
    return StartError(f"the address of the database is not of the form {SHAPE}: {reason}.")


def _from_file(path: Path) -> str:
    """The first line."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StartError(f"the password of the database, {path}, cannot be read: {reason}.") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(tls: str, authorities: Path | None) -> ssl.SSLContext | None:
    if tls == "off":
        return None
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate (PEM)"
        raise StartError(
            f"the authorities of the database, {authorities}, cannot be read: {reason}."
        ) from error
    if tls == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
