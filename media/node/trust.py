"""The TLS of a node: whom it believes to be its manager, and by which certificate the manager knows it.

Loaded before the workers are launched, so nothing is imported here that takes long.
"""

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from media.core.certificate import Certificate


class TrustError(Exception):
    """An authority's certificate cannot be used; the message says why and what to do."""


def trust(authority: Path | None) -> ssl.SSLContext | None:
    """A client's context that trusts what this authority (a PEM file) has signed, and nothing else.

    None: nothing but what is trusted everywhere was asked for. Raises TrustError.
    """
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError as error:
        raise TrustError(
            f"--manager-ca {authority} holds no certificate ({error.reason or error}). Give a PEM file."
        ) from error
    except OSError as error:
        raise TrustError(f"--manager-ca {authority} cannot be read: {error.strerror}.") from error


def server_context(certificate: "Certificate", folder: Path) -> ssl.SSLContext:
    """A server's context with this certificate: TLS 1.3, as manager and nodes are of one age.

    Python takes a key from a file only: it is in `folder`, for its owner's eyes, while it is read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".control-") as file:  # 0600
        file.write(certificate.to_pem())
        file.flush()
        context.load_cert_chain(file.name)
    return context
