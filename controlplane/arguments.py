"""The command line of `python -m controlplane`."""

import argparse
import ipaddress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Arguments:
    data_dir: Path
    run_dir: Path
    log_dir: Path
    listen: str
    port: int
    announce: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    public_url: str | None
    config: Path | None
    database: str | None
    nodes: bool


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: a number from 0 (any free one) to 65535")
    return port


def _address(text: str) -> str:
    if text == "metadata":  # for the node to find out
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def parse(argv: list[str] | None = None) -> Arguments:
    """Exits with code 2 and a message on stderr when the arguments are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m controlplane", description="One stream manager of a Showcaller stage."
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="database and keys")
    parser.add_argument("--run-dir", type=Path, required=True, help="records of what runs")
    parser.add_argument("--log-dir", type=Path, required=True, help="logs of the nodes it launches")
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--announce",
        action="append",
        default=[],
        type=_address,
        metavar="ADDRESS",
        help="media address nodes announce, or the word metadata: as the cloud's instance metadata says",
    )
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM): serve HTTPS")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--public-url", help="where people reach this manager, when not where it listens")
    parser.add_argument("--config", type=Path, help="settings (TOML); config-sample.toml shows every key")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="mysql://USER@HOST/DATABASE instead of SQLite in the data folder, or of database.url in the "
        "settings; the password in SHOWCALLER_DATABASE_PASSWORD or in the file of database.password_file",
    )
    parser.add_argument("--no-nodes", action="store_true", help="launch no nodes")
    given = parser.parse_args(argv)
    if (given.tls_cert is None) != (given.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    if given.public_url is not None and not given.public_url.startswith(("http://", "https://")):
        parser.error("--public-url must begin with http:// or https://")
    return Arguments(
        data_dir=given.data_dir,
        run_dir=given.run_dir,
        log_dir=given.log_dir,
        listen=given.listen,
        port=given.port,
        announce=tuple(given.announce),
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        public_url=given.public_url.rstrip("/") if given.public_url else None,
        config=given.config,
        database=given.database,
        nodes=not given.no_nodes,
    )
