"""The publish token of a broadcast in the foreground, kept for whoever comes after it was killed.

A channel whose publisher vanished is held for it, and whoever shows the same token takes it over without its
viewers leaving. A detached publisher's token is in its order; that of a foreground one would die with the
process, and its channel would refuse everybody for as long as it is held. So it is kept beside the orders, in
a file of mode 0600, with the process it was made for: it is of use to nobody while that process lives, nor
once the channel is off the air.
"""

import os
from dataclasses import dataclass

from pydantic import ValidationError

from console.core.client import Client
from console.core.paths import Home, unusable
from controlplane.wire import processes as records
from controlplane.wire.base import Message
from controlplane.wire.processes import ProcessRecord

TOKEN_S = 30 * 86_400.0  # a looped broadcast may run for weeks; stopping it revokes the token


class _Kept(Message):
    process: ProcessRecord
    token: str


@dataclass(frozen=True, slots=True)
class PublishToken:
    text: str
    made: bool  # for this broadcast: of no use to anybody when it does not come on air


async def publish_token(home: Home, client: Client, channel: str) -> PublishToken:
    """A token to publish with: a new one, or that of a killed publisher of ours whose channel is held."""
    kept = _read(home, channel)
    if kept is not None and not records.alive(kept.process) and await client.stream(channel) is not None:
        return PublishToken(kept.token, made=False)
    return PublishToken((await client.create_token(channel, TOKEN_S)).token, made=True)


def keep(home: Home, channel: str, process: ProcessRecord, token: str) -> None:
    """Remember what this process publishes with. StageError when that cannot be written."""
    path = home.publishers / f"{channel}.token"
    temporary = path.with_suffix(".token-new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(_Kept(process=process, token=token).model_dump_json())
        os.replace(temporary, path)
    except OSError as error:
        raise unusable(path, error) from error


def _read(home: Home, channel: str) -> _Kept | None:
    try:
        return _Kept.model_validate_json((home.publishers / f"{channel}.token").read_text())
    except (OSError, ValidationError):
        return None
