"""The version of this program, and where it is installed: a stage says by which one it was started."""

import functools
from importlib import metadata
from pathlib import Path


@functools.cache
def version() -> str:
    try:
        return metadata.version("showcaller")
    except metadata.PackageNotFoundError:  # run from a copy that was never installed
        return "0+unknown"


def program_folder() -> str:
    """The folder that holds the packages: a clone, or site-packages."""
    return str(Path(__file__).resolve().parents[2])
