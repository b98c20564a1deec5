"""What every test may use; the plugins explain themselves."""

import signal

# A test run in the background of a script is started with SIGINT ignored, and so would be every command that
# the tests interrupt. What is handled here is a default signal in a child; what is ignored stays ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# In the order in which they import one another.
pytest_plugins = [
    "tests.support.chromium",
    "tests.support.stage",
    "tests.support.need",
    "tests.support.figures",
]
