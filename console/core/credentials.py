"""The operator's token of an embedded stage: 256 random bits, in the keyring or in a file of mode 0600.

The stream manager is given only the token's SHA-256. Each home has a token of its own. Where there is no
keyring that works (a server, a container), the token lives in config/operator.token, and whoever makes it
is told so, once. A keyring cannot be told "unless there is one", so a home's token is made under a lock.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from console.core.errors import StageError
from console.core.paths import Home, unusable

SERVICE = "showcaller"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MadeToken:
    token: str
    notice: str = ""  # one sentence to say to the person, when something about it should be known


def token_sha256(token: str) -> str:
    """What the stream manager knows of a token: lower-case hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def operator_token(home: Home) -> str | None:
    """The token of this home; None when none was made yet."""
    path = home.config / "operator.token"
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        return _from_keyring(home)
    except OSError as error:
        raise unusable(path, error) from error
    if len(token) < 32:
        raise StageError(f"{path} holds no token", "Remove it: `showcaller stage up` makes a new one")
    if sys.platform != "win32" and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return token


def ensure_operator_token(home: Home) -> MadeToken:
    """The token of this home, made now if there is none. The home must be prepared."""
    token = operator_token(home)
    if token is not None:
        return MadeToken(token)
    with _one_at_a_time(home):
        return _make_token(home)


def _make_token(home: Home) -> MadeToken:
    token = operator_token(home)
    if token is not None:  # another command was faster
        return MadeToken(token)
    token = secrets.token_urlsafe(32)
    if _into_keyring(home, token):
        return MadeToken(token)
    path = home.config / "operator.token"
    temporary = path.with_name(f".operator.token-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        os.rename(temporary, path)  # whole, or not at all
    except OSError as error:
        raise unusable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return MadeToken(token, f"no keyring works here: the operator token is kept in {path} (mode 0600)")


@contextlib.contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    """Held by one command (or thread) of this home at a time. Blocks."""
    import fcntl  # a stage is brought up on Linux

    path = home.run / "token.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unusable(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keyring_state() -> tuple[bool, str]:
    """Whether a keyring that keeps what it is given is there, and its name or what is wrong."""
    try:
        import keyring
        from keyring.backends import fail, null

        backend = keyring.get_keyring()
    except Exception as error:  # a broken backend may raise anything at import
        log.info("no keyring works: %s: %s", type(error).__name__, error)
        return False, str(error) or type(error).__name__
    if isinstance(backend, fail.Keyring | null.Keyring):
        return False, "no keyring service answers"
    return True, str(backend.name)


def _account(home: Home) -> str:
    return f"operator of {home.root}"


def _from_keyring(home: Home) -> str | None:
    if not keyring_state()[0]:
        return None
    import keyring

    try:
        return keyring.get_password(SERVICE, _account(home)) or None
    except Exception as error:  # locked, dismissed, or its service is gone: as if there were none
        log.info("the keyring was not read: %s: %s", type(error).__name__, error)
        return None


def _into_keyring(home: Home, token: str) -> bool:
    if not keyring_state()[0]:
        return False
    import keyring

    try:
        keyring.set_password(SERVICE, _account(home), token)
        return keyring.get_password(SERVICE, _account(home)) == token
    except Exception as error:  # the same: a file keeps the token then
        log.info("the keyring did not take the token: %s: %s", type(error).__name__, error)
        return False
