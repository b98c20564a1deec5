"""The start of a node: its command line, its workers, its agent.

The enrolment token comes in SHOWCALLER_ENROL_TOKEN: a command line is readable by everyone on the machine.
"""

import argparse
import asyncio
import ipaddress
import os
import sys
from pathlib import Path

from controlplane.wire.reaching import Unreachable, check_manager, control_host
from media.drive.ports import DEFAULT_PORTS
from media.node.addresses import METADATA, announced_addresses
from media.node.cores import usable_cores
from media.node.errors import AnnounceError
from media.node.trust import TrustError, trust
from media.node.workers import TOKEN, WorkerPlan, launch


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _announced(text: str) -> str:
    return text if text == METADATA else _address(text)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1-65535)")
    return port


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m media.node", description="One node, origin or edge.")
    parser.add_argument("--role", required=True, choices=["origin", "edge"])
    parser.add_argument("--manager", required=True, metavar="URL", help="of the stream manager")
    parser.add_argument(
        "--manager-ca",
        type=Path,
        metavar="FILE",
        help="trust the certificate of a manager elsewhere when this authority (PEM) has signed it",
    )
    parser.add_argument("--run-dir", required=True, type=Path, help="process records go there")
    parser.add_argument("--log-dir", type=Path, help="unused here: the launcher keeps our stderr there")
    parser.add_argument("--name", help="until the manager says otherwise: edge-1")
    parser.add_argument(
        "--announce",
        action="append",
        nargs="+",
        type=_announced,
        metavar="ADDRESS",
        help="media address that viewers can reach (default: 127.0.0.1 and this host's own); "
        f"{METADATA!r}: as the cloud's instance metadata says",
    )
    parser.add_argument(
        "--udp-port",
        type=_port,
        help="of the first worker, the next one of the next; for TCP too (default: first free from 20000)",
    )
    parser.add_argument(
        "--tcp-port",
        type=_port,
        help="another one for viewers whose network blocks UDP, 443 say; all workers of a machine share it",
    )
    parser.add_argument("--control-port", type=_port, default=0, help="default: any free one")
    parser.add_argument(
        "--control-listen",
        type=_address,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where the manager's orders are taken (%(default)s); one that it can reach, if it is elsewhere",
    )
    parser.add_argument(
        "--control-announce",
        type=_address,
        metavar="ADDRESS",
        help="where the manager reaches that, when not at the address listened on",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="packet processes (default: one a core that we may use)",
    )
    parser.add_argument("--capacity", type=_positive, help="connections; more are refused")
    options = parser.parse_args(arguments)
    if options.workers is None:
        options.workers = usable_cores()
    if not os.environ.get(TOKEN):
        parser.error(f"{TOKEN} is not set. Take a token from the stream manager (showcaller fleet add).")
    try:
        check_manager(options.manager)
        options.control_host = control_host(options.manager, options.control_listen, options.control_announce)
        options.trust = trust(options.manager_ca)
    except (Unreachable, TrustError) as error:
        parser.error(str(error))
    own = DEFAULT_PORTS
    if options.udp_port is not None:
        own = range(options.udp_port, options.udp_port + options.workers)
    if options.tcp_port in own:
        parser.error(
            f"--tcp-port {options.tcp_port} is among the workers' own ports ({own.start}-{own.stop - 1}), "
            "where they take TCP anyhow. Choose another, or leave it out."
        )
    return options


def _failed(label: str, reason: str) -> int:
    """Say in the log why the node cannot start, as its agent would; returns the exit code."""
    import structlog

    from media.node import logs

    logs.configure(label)
    structlog.get_logger().error("node_failed", reason=reason)
    return 1


def start(arguments: list[str]) -> int:
    """Run the node to its end; its exit code."""
    options = parse(arguments)
    label = options.name or options.role
    try:
        announced = announced_addresses([text for group in options.announce or [] for text in group])
    except AnnounceError as error:
        return _failed(label, str(error))
    # First of all, so that the workers load while we do.
    launched = [
        launch(
            WorkerPlan(
                index=index,
                name=f"{label}.worker-{index}",
                role=options.role,
                addresses=tuple(announced),
                udp_port=None if options.udp_port is None else options.udp_port + index,
                tcp_port=options.tcp_port,
            )
        )
        for index in range(options.workers)
    ]
    from controlplane.wire import processes

    # Whoever launched us writes the same, unless it is killed first: then `stage down` would not find us.
    records = options.run_dir / "processes"
    if options.name is not None:
        try:
            processes.record_self_or_child(records, options.name, "node", os.getpid())
        except OSError as error:
            print(f"error: {records} cannot be written to ({error.strerror}).", file=sys.stderr)
            return 1

    import structlog

    from controlplane.wire.nodes import Role
    from media.drive.loop import new_loop
    from media.node import logs
    from media.node.agent import Agent, AgentFailed, AgentOptions

    logs.configure(label)
    settings = AgentOptions(
        role=Role(options.role),
        manager=options.manager,
        run_dir=options.run_dir,
        token=os.environ.pop(TOKEN),
        name=options.name,
        addresses=tuple(announced),
        control_listen=options.control_listen,
        control_host=options.control_host,
        control_port=options.control_port,
        trust=options.trust,
        capacity=options.capacity,
    )

    async def run() -> None:
        await Agent(settings, launched).run()

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run())
    except AgentFailed as error:
        structlog.get_logger().error("node_failed", reason=str(error))
        return 1
    finally:
        processes.forget_self(records)
    return 0
