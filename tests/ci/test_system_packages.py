"""`.ci/system-packages` on a stranger's machine: what it installs, what it only says, and what ends `make`.

The machine is a PATH of a few small scripts: `id` says who asks, `apt-get` notes what it was asked for.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "system-packages"
GSTREAMER = (
    *("python3-gi", "gir1.2-gst-plugins-bad-1.0", "gstreamer1.0-nice", "gstreamer1.0-plugins-bad"),
    *("gstreamer1.0-plugins-ugly", "gstreamer1.0-libav"),
)
ALL = (
    *(
        "tmux",
        "ffmpeg",
        "iproute2",
        "nftables",
        "mariadb-server-core",
        "libatomic1",
        "chromium",
        "firefox-esr",
    ),
    *GSTREAMER,
)
SNAP_STUB = '#!/bin/sh\nif ! [ -x /snap/bin/chromium ]; then echo "snap install chromium" >&2; exit 1; fi\n'


@dataclass
class Machine:
    """One with apt-get and none of what the tests need."""

    folder: Path

    def __post_init__(self) -> None:
        self.bin.mkdir()
        (self.bin / "grep").symlink_to(shutil.which("grep") or "/bin/grep")
        self.program("ldconfig", "echo '	libc.so.6 (libc6,x86-64) => /lib/libc.so.6'")
        self.program("apt-get", f'echo "$*" >>{self.asked}')
        self.user(1000)
        self.system("debian")

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def asked(self) -> Path:
        return self.folder / "asked-of-apt-get"

    def program(self, name: str, body: str = "") -> Path:
        path = self.bin / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def user(self, uid: int) -> None:
        self.program("id", f'[ "$1" = -u ] && echo {uid}')

    def system(self, name: str) -> None:
        (self.folder / "os-release").write_text(f"PRETTY_NAME='A system'\nID={name}\n")

    def without_venv(self) -> None:
        """As Debian's python3 is without python3-venv."""
        real = f'exec "{sys.executable}" "$@"'
        self.program("python3", f'case "$2" in *ensurepip*) exit 1 ;; esac\n{real}')

    def has_all_but_chromium(self) -> None:
        for name in ("tmux", "ffmpeg", "ip", "nft", "mariadbd", "firefox-esr"):
            self.program(name)
        self.program("ldconfig", "echo '	libatomic.so.1 (libc6,x86-64) => /lib/libatomic.so.1'")
        self.system_python.write_text("#!/bin/sh\nexit 0\n")
        self.system_python.chmod(0o755)

    @property
    def system_python(self) -> Path:
        """Which has GStreamer, if it is there."""
        return self.folder / "python-of-the-system"

    def make(self, mode: str, **more: str) -> "subprocess.CompletedProcess[str]":
        python = self.bin / "python3"
        environment = {
            "PATH": str(self.bin),
            "PYTHON": str(python if python.exists() else sys.executable),
            "OS_RELEASE": str(self.folder / "os-release"),
            "SYSTEM_PYTHON": str(self.system_python),
            "SBIN": str(self.bin),
        }
        return subprocess.run(
            [SCRIPT, mode], env=environment | more, capture_output=True, text=True, timeout=30, check=False
        )

    def orders(self) -> list[str]:
        return self.asked.read_text().splitlines() if self.asked.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def fails(step: str) -> str:
    """An apt-get whose `update` or `install` does not work, as without a network or beside another one."""
    words = "E: Could not get lock /var/lib/apt/lists/lock"
    return f'echo "$*" >>"$ASKED"\nif [ "$1" = {step} ]; then echo "{words}" >&2; exit 100; fi'


def test_root_gets_it_all_installed(machine: Machine) -> None:
    machine.user(0)
    done = machine.make("test")
    assert (done.returncode, done.stderr) == (0, "")
    update, install = machine.orders()
    assert update.split()[0] == "update"
    words = install.split()
    assert words[:2] == ["install", "-y"]
    assert "--no-install-recommends" in words
    assert tuple(word for word in words[2:] if not word.startswith("-")) == ALL


def test_anybody_else_is_told_the_one_command(machine: Machine) -> None:
    done = machine.make("test")
    assert done.returncode == 0
    assert machine.orders() == []
    (note,) = done.stderr.splitlines()
    assert note.startswith("note: ")
    assert "reported as not run" in note
    assert note.endswith(f"sudo apt-get install -y --no-install-recommends {' '.join(ALL)}")


def test_where_nothing_is_missing_nothing_is_said_or_done(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium")
    for uid in (0, 1000):
        machine.user(uid)
        done = machine.make("test")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.orders() == []


def test_without_a_package_manager_we_know_the_parts_are_named(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    done = machine.make("test")
    assert done.returncode == 0
    assert f"(with your system's package manager) {' '.join(ALL)}" in done.stderr


def test_root_without_a_network_is_told_the_command_and_the_tests_go_on(machine: Machine) -> None:
    machine.user(0)
    machine.program("apt-get", 'echo "$*" >>"$ASKED"; exit 100')
    done = machine.make("test", ASKED=str(machine.asked))
    assert done.returncode == 0
    note = done.stderr.splitlines()[-1]
    assert "apt-get failed" in note
    assert "reported as not run" in note
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(ALL)}"
    assert note.endswith(f"Install with: {command}")
    assert [order.split()[0] for order in machine.orders()] == ["update", "install"]


def test_lists_that_cannot_be_renewed_may_still_do(machine: Machine) -> None:
    machine.user(0)
    machine.program("apt-get", fails("update"))
    done = machine.make("test", ASKED=str(machine.asked))
    assert done.returncode == 0
    assert "Tests that need them" not in done.stderr
    assert [order.split()[0] for order in machine.orders()] == ["update", "install"]


@pytest.mark.parametrize("mode", ["run", "test"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_without_venv_nothing_can_go_on_and_it_is_said_how_to_get_it(
    machine: Machine, mode: str, uid: int
) -> None:
    machine.user(uid)
    machine.without_venv()
    machine.program("apt-get", fails("install"))
    done = machine.make(mode, ASKED=str(machine.asked))
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: missing: python3-venv")
    assert "apt-get install -y --no-install-recommends python3-venv" in error
    assert ("sudo " in error) == (uid != 0)


def test_make_run_installs_no_more_than_it_needs(machine: Machine) -> None:
    machine.user(0)
    assert machine.make("run").returncode == 0
    assert machine.orders() == []
    machine.without_venv()
    assert machine.make("run").returncode == 0
    assert [word for word in machine.orders()[1].split()[1:] if not word.startswith("-")] == ["python3-venv"]


def test_make_bench_gets_a_peer_to_compare_with_that_is_no_service(machine: Machine) -> None:
    machine.user(0)
    policy = machine.folder / "policy-rc.d"
    for name in ("rm", "chmod"):
        (machine.bin / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    starts = '[ "$1" != install ] || "$POLICY_RC_D" || echo "$?" >>"$ASKED"'
    machine.program("apt-get", f'echo "$*" >>"$ASKED"\n{starts}')
    machine.program("systemctl", 'echo "systemctl $*" >>"$ASKED"')
    done = machine.make("bench", ASKED=str(machine.asked), POLICY_RC_D=str(policy))
    assert (done.returncode, done.stderr) == (0, "")
    _, install, told, disabled = machine.orders()
    words = [word for word in install.split()[1:] if not word.startswith("-")]
    assert words == ["tmux", "ffmpeg", "gcc", "libc6-dev", "janus", "libatomic1", "chromium"]
    assert told == "101", "while it is installed no service may be started"
    assert not policy.exists()
    assert disabled == "systemctl --quiet disable janus"
    machine.asked.unlink()
    for name in ("tmux", "ffmpeg", "cc", "janus", "chromium"):
        machine.program(name)
    machine.program("ldconfig", "echo '	libatomic.so.1 (libc6,x86-64) => /lib/libatomic.so.1'")
    assert machine.make("bench", ASKED=str(machine.asked)).returncode == 0
    assert machine.orders() == []


def test_what_make_bench_lacks_is_said_of_its_rows(machine: Machine) -> None:
    done = machine.make("bench")
    assert done.returncode == 0
    assert "Rows that need them will be reported as not run" in done.stderr


def test_a_python_that_is_too_old_or_not_there_is_named(machine: Machine) -> None:
    done = machine.make("run", PYTHON="python-nobody-has")
    assert done.returncode == 1
    assert "python-nobody-has is not here" in done.stderr
    old = machine.program("python3", 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    done = machine.make("run", PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.9.2 is too old" in done.stderr


# --- which browser counts


def wants_chromium(machine: Machine, **more: str) -> bool:
    machine.user(0)
    assert machine.make("test", **more).returncode == 0
    return any("chromium" in order.split() for order in machine.orders())


def test_a_snap_stub_is_no_chromium(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium-browser", SNAP_STUB)
    assert wants_chromium(machine)


@pytest.mark.parametrize("name", ["chrome", "google-chrome", "microsoft-edge"])
def test_a_program_with_the_word_somewhere_in_it_is_no_snap_stub(machine: Machine, name: str) -> None:
    machine.has_all_but_chromium()
    path = machine.bin / name
    path.write_bytes(b"\x7fELF" + bytes(12) + b"snapshot_blob.bin")
    path.chmod(0o755)
    assert not wants_chromium(machine)


def test_the_browser_that_is_named_is_taken(machine: Machine) -> None:
    machine.has_all_but_chromium()
    own = machine.program("a-browser-of-my-own")
    assert not wants_chromium(machine, CHROMIUM_PATH=str(own))


def test_a_named_browser_that_is_none_is_said_and_none_is_installed_in_its_place(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.user(0)
    done = machine.make("test", CHROMIUM_PATH=str(machine.folder / "gone"))
    assert done.returncode == 0
    assert "CHROMIUM_PATH" in done.stderr
    assert "reported as not run" in done.stderr
    assert machine.orders() == []


def test_on_ubuntu_no_snap_is_installed_and_what_to_do_is_said(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium-browser", SNAP_STUB)
    machine.system("ubuntu")
    machine.user(0)
    done = machine.make("test")
    assert done.returncode == 0
    assert machine.orders() == []
    assert "install Google Chrome" in done.stderr
    assert "CHROMIUM_PATH" in done.stderr


@pytest.mark.parametrize("name", ["firefox-esr", "firefox"])
def test_a_firefox_that_is_here_or_named_is_taken(machine: Machine, name: str) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium")
    machine.user(0)
    (machine.bin / "firefox-esr").unlink()
    own = machine.program("a-browser-of-my-own")
    done = machine.make("test", FIREFOX_PATH=str(own))
    assert (done.returncode, done.stderr, machine.orders()) == (0, "", [])
    done = machine.make("test", FIREFOX_PATH=str(machine.folder / "gone"))
    assert (done.returncode, machine.orders()) == (0, [])
    assert "FIREFOX_PATH" in done.stderr
    assert machine.make("test").returncode == 0
    assert machine.orders()[-1].split()[-1] == "firefox-esr"
    machine.asked.unlink()
    machine.program(name)
    assert machine.make("test").returncode == 0
    assert machine.orders() == []


def test_on_ubuntu_no_snap_of_firefox_is_installed_either(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium")
    (machine.bin / "firefox-esr").unlink()
    machine.system("ubuntu")
    machine.user(0)
    done = machine.make("test")
    assert (done.returncode, machine.orders()) == (0, [])
    assert "FIREFOX_PATH" in done.stderr


def test_a_gstreamer_that_lacks_something_is_completed(machine: Machine) -> None:
    machine.has_all_but_chromium()
    machine.program("chromium")
    machine.user(0)
    machine.system_python.write_text("#!/bin/sh\necho 'GStreamer lacks webrtcbin' >&2\nexit 1\n")
    done = machine.make("test")
    assert (done.returncode, done.stderr) == (0, "")
    assert tuple(word for word in machine.orders()[1].split()[2:] if word[0] != "-") == GSTREAMER


# --- through make itself


def test_make_test_goes_on_to_the_next_step_where_apt_get_fails(machine: Machine) -> None:
    machine.user(0)
    machine.program("apt-get", 'echo "$*" >>"$ASKED"; exit 100')
    done = subprocess.run(
        [shutil.which("make") or "make", "test-packages"],
        cwd=SCRIPT.parents[1],
        env={
            "PATH": str(machine.bin),
            "PYTHON": sys.executable,
            "OS_RELEASE": str(machine.folder / "os-release"),
            "ASKED": str(machine.asked),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "reported as not run" in done.stderr
    assert machine.orders()
