"""Which stream manager a command or a screen speaks to, and with which token.

With --api (or SHOWCALLER_API) a manager named by its address, or several of one stage; otherwise the embedded
stage of this home.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console.core.calls import check_api_url
from console.core.client import Client
from console.core.errors import Unreachable, UsageError
from console.core.live import LiveSource
from console.core.stage.model import StageOptions, locate


@dataclass(frozen=True)
class ConsoleOptions:
    """What `showcaller` was called with: handed to the screens as it is."""

    stage: StageOptions  # home, port, listen ...: how to bring the embedded stage up
    api: str | None = None  # a manager elsewhere, or several with commas: then no stage is brought up
    token_file: Path | None = None  # goes with `api`; a token of this machine's stage is found by itself

    def __post_init__(self) -> None:
        if self.token_file is not None and not self.api:
            raise UsageError(
                "--token-file is for a stream manager elsewhere, and none is named",
                "Name it with --api URL, or leave --token-file out: this machine's own is found by itself",
            )


@dataclass(frozen=True)
class Target:
    """A stream manager that can be called. `remote` ones are never brought up or ended from here."""

    api: str
    token: str
    watch: str | None  # None: ask the snapshot
    remote: bool
    others: tuple[str, ...] = ()  # more managers of the same stage

    def client(self, timeout: float = 10.0, trust: ssl.SSLContext | None = None) -> Client:
        return Client(
            self.api, self.token, others=self.others, timeout=timeout, local=not self.remote, trust=trust
        )

    def live(self) -> LiveSource:
        return LiveSource(self.api, self.token, others=self.others, local=not self.remote)


def addresses(api: str) -> list[str]:
    """The managers that are named, with commas between, each once. UsageError where one is no address."""
    named = [check_api_url(part.strip()) for part in api.split(",") if part.strip()]
    return list(dict.fromkeys(named)) or [check_api_url(api)]


def find_target(options: ConsoleOptions, environment: Mapping[str, str] = os.environ) -> Target:
    """The target as the options say. Unreachable when no stage was brought up on this home.

    UsageError when a remote manager is named without a token.
    """
    if options.api:
        first, *others = addresses(options.api)
        given = _remote_token(options, environment)
        return Target(first, given, None, remote=True, others=tuple(others))
    from console.core.credentials import operator_token

    place = locate(options.stage.home)
    token = None if place is None else operator_token(options.stage.home)
    if place is None or token is None:
        raise Unreachable(
            f"no stage is up in {options.stage.home.root}",
            "Bring one up with `showcaller stage up`, or name a manager with --api",
        )
    return Target(place.local_api, token, place.watch, remote=False)


def _remote_token(options: ConsoleOptions, environment: Mapping[str, str]) -> str:
    token = environment.get("SHOWCALLER_TOKEN", "")
    named = environment.get("SHOWCALLER_TOKEN_FILE")
    path = options.token_file or (Path(named) if named else None)
    if path is not None:
        try:
            token = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise UsageError(f"cannot read the token file {path}: {reason}") from error
    token = token.strip()
    if not token:
        raise UsageError(
            "a manager named with --api needs the operator's token",
            "Give --token-file FILE, or set SHOWCALLER_TOKEN",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("the operator's token holds characters that no token has")
    return token
