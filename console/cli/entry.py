"""Where `showcaller` begins: before it has loaded anything, so that a Ctrl-C while it loads is quiet.

Loading takes a tenth of a second and more, and nothing has been started by then: a Ctrl-C ends the process
at once with 130, the code of an interrupted command. From then on it is a KeyboardInterrupt, which the
commands handle in their own ways.
"""

from console.cli.loading import loading


def main() -> int:
    with loading():
        from console.cli.main import main as run
    return run()
