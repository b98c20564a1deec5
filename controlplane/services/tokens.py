"""Who may do what: publish tokens, the operator's token, the secrets between manager and nodes.

Publish tokens are JWTs signed with HS256 by a key in the data folder; no other algorithm is ever accepted.
Claims: iss "showcaller", aud "whip", sub the channel, typ "publish", jti, iat, nbf, exp, all required. A
revoked jti is refused for as long as it could have been used. Of the operator's token and of the nodes'
credentials only SHA-256 is known here. The secret the manager shows to a node's control endpoint is derived
from the key, so it survives a restart without being written down. Scrapers have a token of their own, in a
file beside the key: with it metrics are read and nothing else. What a call was answered with is kept sealed
with the key (`seal`), as there may be a token in it.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt
from cryptography.fernet import Fernet, InvalidToken

from controlplane.domain.nodes.model import Node
from controlplane.errors import Conflict, Forbidden, StartError, Unauthenticated
from controlplane.ports.clock import Clock
from controlplane.ports.store import Store

ALGORITHM = "HS256"
ISSUER = "showcaller"
AUDIENCE = "whip"
TYPE = "publish"
KEY_BYTES = 32
MIN_TOKEN = 22  # characters of 6 bits: 128 bits and more


@dataclass(frozen=True, slots=True)
class PublishClaims:
    channel: str
    jti: str
    expires: float
    expired: bool = False


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """256 bits, in characters that fit a header and an environment variable."""
    return secrets.token_urlsafe(32)


def _make(path: Path, secret: str) -> None:
    """Write a file (0600) that is not there yet: whole, or not at all."""
    if path.exists():
        return
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-key-")  # 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def load_metrics_token(path: Path) -> str:
    """Read the token that may read metrics and nothing else, or make it on the first start.

    In a file, as a scraper on this machine can be told to read it there; who removes it revokes it.
    """
    _make(path, new_secret())
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the metrics token {path} cannot be read: {error}.") from error
    if len(token) < MIN_TOKEN or not token.isprintable():
        raise StartError(
            f"the metrics token {path} is damaged: {MIN_TOKEN} characters are the least. "
            "Remove it: a new one is made, and scrapers need that."
        )
    return token


def load_manager_id(path: Path, machine: str) -> str:
    """What a stream manager goes by among others on its database: of a number made on the first start, this
    machine's name and the folder. So a copied folder is another manager, and a restarted one the same."""
    _make(path, secrets.token_hex(16))
    try:
        made = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the manager's number {path} cannot be read: {error}.") from error
    return sha256(f"{made}|{machine}|{path.resolve()}")[:16]


def load_signing_key(path: Path) -> bytes:
    """Read the key, or make it (0600) on the first start: whole, or not at all."""
    _make(path, secrets.token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise StartError(f"the signing key {path} cannot be read: {error.strerror}.") from error
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise StartError(
            f"the signing key {path} is damaged: {KEY_BYTES} bytes in hexadecimal are needed. "
            "Put back a copy, or remove it: a new one is made, and tokens given out so far end."
        )
    return key


def load_operator_hash(path: Path, environment: str | None) -> str | None:
    """The SHA-256 of the operator's token, from the environment or the data folder; None if there is none."""
    if environment is not None:
        text, where = environment, "SHOWCALLER_OPERATOR_SHA256"
    elif path.exists():
        text, where = path.read_text(), str(path)
    else:
        return None
    text = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise StartError(f"{where} must be the SHA-256 of the operator's token: 64 hexadecimal digits.")
    return text


class Tokens:
    def __init__(
        self, key: bytes, operator_hash: str | None, metrics_token: str, store: Store, clock: Clock
    ) -> None:
        self._key = key
        self.metrics_sha256 = sha256(metrics_token)
        self._operator_hash = operator_hash
        self._store = store
        self._clock = clock

    def is_operator(self, token: str) -> bool:
        return self._operator_hash is not None and hmac.compare_digest(sha256(token), self._operator_hash)

    def may_read_metrics(self, token: str) -> bool:
        """The token for scrapers, or the operator's."""
        return hmac.compare_digest(sha256(token), self.metrics_sha256) or self.is_operator(token)

    def issue(self, channel: str, ttl_s: float) -> tuple[str, datetime]:
        """A publish token for a channel, and when it expires."""
        now = int(self._clock.now())
        expires = now + max(1, round(ttl_s))
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": channel,
            "typ": TYPE,
            "jti": secrets.token_hex(16),
            "iat": now,
            "nbf": now,
            "exp": expires,
        }
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM)
        return token, datetime.fromtimestamp(expires, UTC)

    def read(self, token: str, channel: str, *, accept_expired: bool = False) -> PublishClaims:
        """The claims of a publish token for this channel: signature, times and type checked.

        Raises Unauthenticated, or Forbidden when it is good for another channel. Revocation is not looked
        at here: see `revoked`.
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["iss", "aud", "sub", "typ", "jti", "iat", "nbf", "exp"],
                    "verify_exp": False,  # below, by our clock, as is nbf
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            jti, subject = claims["jti"], claims["sub"]
            expires, not_before = float(claims["exp"]), float(claims["nbf"])
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise Unauthenticated(f"The publish token is not valid: {error}. {_ASK}") from error
        now = self._clock.now()
        if claims["typ"] != TYPE or not isinstance(jti, str) or not isinstance(subject, str):
            raise Unauthenticated(f"The token is not a publish token. {_ASK}")
        if now < not_before and not accept_expired:  # a clock that was set back ends nothing that runs
            raise Unauthenticated("The publish token is not valid yet. Check the clocks of both machines.")
        expired = now >= expires
        if expired and not accept_expired:
            raise Unauthenticated(f"The publish token has expired. {_ASK}", code="token_expired")
        if subject != channel:
            raise Forbidden(f"The token publishes {subject}, not {channel}.", code="wrong_channel")
        return PublishClaims(channel, jti, expires, expired)

    async def revoked(self, claims: PublishClaims) -> bool:
        return await self._store.read(lambda tx: tx.revoked(claims.jti))

    async def check(self, token: str, channel: str) -> PublishClaims:
        """The claims of a token that may publish this channel now."""
        claims = self.read(token, channel)
        if await self.revoked(claims):
            raise Unauthenticated(
                f"This publish token was revoked: the broadcast was stopped. {_ASK}", code="token_revoked"
            )
        return claims

    def control_secret(self, node: Node) -> str:
        """What the manager shows to this node's control endpoint. Different for each life of a name."""
        return hmac.new(self._key, f"control|{node.id}|{node.enrol_hash}".encode(), "sha256").hexdigest()

    def move_token(self, session_id: str) -> str:
        """What lets a viewer come to the session that is reserved for it. Made anew whenever it is told, and
        kept nowhere: that it is used once, and in time, is the session's row to know."""
        return f"{session_id}.{self._move_proof(session_id)}"

    def read_move(self, token: str) -> str:
        """The session that a move token is for. Raises Forbidden for one that is not ours."""
        session_id, _, proof = token.partition(".")
        if not hmac.compare_digest(proof.encode(), self._move_proof(session_id).encode()):
            raise Forbidden("This is no move of ours. Make a session without it.", code="bad_move")
        return session_id

    def seal(self, key: str, text: str) -> str:
        """A text that is kept for whoever has a key: to be read with it and the stage's own, and not by who
        has only the database."""
        return self._seal(key).encrypt(text.encode()).decode()

    def unseal(self, key: str, sealed: str) -> str:
        """Raises Conflict for what was sealed with another key of the stage's."""
        try:
            return self._seal(key).decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Conflict(
                "It was done, and what was answered cannot be read: the signing.key of this stream manager "
                "is another one than that of the manager that did it. Look before you ask for it again.",
                code="answer_sealed",
                title="The answer cannot be read",
            ) from error

    def _seal(self, key: str) -> Fernet:
        made = hmac.new(self._key, f"answer|{key}".encode(), "sha256").digest()
        return Fernet(base64.urlsafe_b64encode(made))

    def _move_proof(self, session_id: str) -> str:
        return hmac.new(self._key, f"move|{session_id}".encode(), "sha256").hexdigest()[:40]


_ASK = "Ask for a new one: showcaller token create --publish CHANNEL"
