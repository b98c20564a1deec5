"""The operator's token: where it is kept, and that it is kept."""

import hashlib
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail

from console.core.credentials import ensure_operator_token, operator_token, token_sha256
from console.core.errors import StageError
from console.core.paths import Home


class MemoryKeyring(KeyringBackend):
    """A keyring that works, without a desktop session."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class ForgetfulKeyring(MemoryKeyring):
    """Takes everything and keeps nothing, as a locked one may."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class SlowKeyring(MemoryKeyring):
    """Answers as late as one behind a message bus does."""

    def get_password(self, service: str, username: str) -> str | None:
        kept = super().get_password(service, username)
        time.sleep(0.02)
        return kept


class LockedKeyring(MemoryKeyring):
    """Answers like a service that has just gone away."""

    def get_password(self, service: str, username: str) -> str | None:
        raise OSError("the keyring is locked")

    set_password = get_password  # type: ignore[assignment]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def use_keyring() -> Iterator[object]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_a_working_keyring_keeps_the_token(home: Home, use_keyring) -> None:  # type: ignore[no-untyped-def]
    backend = MemoryKeyring()
    use_keyring(backend)
    made = ensure_operator_token(home)
    assert made.notice == ""
    assert list(backend.kept.values()) == [made.token]
    assert not (home.config / "operator.token").exists()
    assert operator_token(home) == made.token == ensure_operator_token(home).token


@pytest.mark.parametrize("backend", [fail.Keyring(), SlowKeyring()])
def test_commands_that_make_it_at_once_make_one(  # type: ignore[no-untyped-def]
    home: Home, use_keyring, backend: KeyringBackend
) -> None:
    use_keyring(backend)
    at_once = threading.Barrier(8)

    def make(_: int) -> str:
        at_once.wait()
        return ensure_operator_token(home).token

    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(make, range(8)))
    assert tokens == {operator_token(home)}


def test_each_home_has_its_own_token(home: Home, tmp_path: Path, use_keyring) -> None:  # type: ignore[no-untyped-def]
    use_keyring(MemoryKeyring())
    other = Home(tmp_path / "other")
    other.prepare()
    assert ensure_operator_token(home).token != ensure_operator_token(other).token


@pytest.mark.parametrize("backend", [fail.Keyring(), ForgetfulKeyring()])
def test_without_a_keyring_that_keeps_it_a_private_file_does_and_it_is_said_once(
    home: Home,
    use_keyring,
    backend: KeyringBackend,  # type: ignore[no-untyped-def]
) -> None:
    use_keyring(backend)
    made = ensure_operator_token(home)
    path = home.config / "operator.token"
    assert str(path) in made.notice
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = ensure_operator_token(home)
    assert (again.token, again.notice) == (made.token, "")


def test_a_token_has_256_bits_and_the_manager_knows_only_its_hash(home: Home, use_keyring) -> None:  # type: ignore[no-untyped-def]
    use_keyring(fail.Keyring())
    token = ensure_operator_token(home).token
    assert len(token) >= 43
    assert token_sha256(token) == hashlib.sha256(token.encode()).hexdigest()


def test_a_token_file_others_may_read_is_closed_to_them(home: Home, use_keyring) -> None:  # type: ignore[no-untyped-def]
    use_keyring(fail.Keyring())
    ensure_operator_token(home)
    path = home.config / "operator.token"
    path.chmod(0o644)
    operator_token(home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_token_file_is_said(home: Home, use_keyring) -> None:  # type: ignore[no-untyped-def]
    use_keyring(fail.Keyring())
    (home.config / "operator.token").write_text("short")
    with pytest.raises(StageError, match="Remove it"):
        ensure_operator_token(home)


def test_a_keyring_that_fails_is_logged_and_a_file_keeps_the_token(  # type: ignore[no-untyped-def]
    home: Home, use_keyring, caplog: pytest.LogCaptureFixture
) -> None:
    use_keyring(LockedKeyring())
    with caplog.at_level("INFO", logger="console"):
        made = ensure_operator_token(home)
    assert operator_token(home) == made.token
    assert (home.config / "operator.token").is_file()
    assert any(record.name == "console.core.credentials" for record in caplog.records)
    assert made.token not in caplog.text
