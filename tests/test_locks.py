"""What a clone installs: pinned, with hashes, from whatever index the machine itself is set up for."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_index_and_no_address(lock: Path) -> None:
    """Every line is a pin, a hash of it, or a remark: nothing that says where from."""
    for line in lock.read_text().splitlines():
        words = line.partition("#")[0].split()
        options = [word for word in words if word.startswith("-")]
        assert all(option.startswith("--hash=sha256:") for option in options), line
        assert "://" not in line, line
        assert "@" not in words, line
        assert line.startswith((" ", "#")) or "==" in line, line


def test_there_are_locks_for_the_program_and_for_its_tests() -> None:
    assert [lock.name for lock in LOCKS] == ["requirements-dev.lock", "requirements.lock"]
