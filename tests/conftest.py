"""What every test may use; the plugins explain themselves."""

import gc
import os
import signal

from hypothesis import settings

# A keyring of the person who runs the tests is not theirs to write to, in this process or in what it starts:
# tests that need one bring their own. (Before anything imports keyring: a keyring of a test's own, once
# defined, would else be taken for the system's.)
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"

# A test run in the background of a script is started with SIGINT ignored, and so would be every command that
# the tests interrupt. What is handled here is a default signal in a child; what is ignored stays ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example has a time limit: how long one takes depends on what else the machine does.
settings.register_profile("showcaller", deadline=None)
settings.load_profile("showcaller")

# In the order in which they import one another.
pytest_plugins = [
    "tests.support.chromium",
    "tests.support.firefox",
    "tests.support.stage",
    "tests.support.need",
    "tests.support.figures",
    "tests.support.lanes",
    "tests.support.mariadb",
]


def pytest_collection_finish() -> None:
    """What is loaded by now stays: it need not be looked through whenever garbage is looked for."""
    gc.collect()
    gc.freeze()
