"""`python -m media.swarm probe | crowd | watch | signalling`: watch as one viewer that measures, as a crowd,
or as one that comes back whatever dies; or join as a crowd without media, on nodes without media."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from typing import NoReturn

from media.publisher.errors import PublishError, UsageError
from media.publisher.logs import tell_error
from media.publisher.options import parse_url

VIEWERS_A_PROCESS = 500  # about half a core
MOST_VIEWERS = 20_000
MOST_OF_A_PARTY = 32
LATE_MS = 150.0  # of a frame
FOLLOWERS = 500  # viewers that follow moves without being told to


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "See: python -m media.swarm --help")


def _parser() -> argparse.ArgumentParser:
    it = _Parser(prog="python -m media.swarm")
    commands = it.add_subparsers(dest="command", required=True)
    probe = commands.add_parser("probe", help="one real viewer that measures")
    crowd = commands.add_parser("crowd", help="many cheap real viewers")
    part = commands.add_parser("part", help="one process of a crowd; started by it")
    watch = commands.add_parser("watch", help="one viewer that comes back; started by a drill")
    watch.add_argument("--edge", help="where it would like to be at first; needs SHOWCALLER_TOKEN")
    storm = commands.add_parser("signalling", help="a simulated fleet, and a crowd that joins it")
    storm.add_argument("--api", action="append", required=True, metavar="URL", help="of a stream manager")
    storm.add_argument("--channel", default="signalling", metavar="NAME")
    storm.add_argument("--nodes", type=int, default=170)
    storm.add_argument("--joins", type=int, default=50_000)
    storm.add_argument("--party-size", type=int, default=8)
    storm.add_argument("--over", type=float, default=60.0, metavar="SECONDS")
    storm.add_argument("--even", action="store_true", help="one after the other, instead of by chance")
    storm.add_argument("--stay", type=float, metavar="SECONDS", help="each leaves after so long")
    storm.add_argument("--control-listen", default="127.0.0.1", metavar="ADDRESS", help="of the nodes")
    storm.add_argument("--seed", type=int, default=1, help="of chance")
    storm.add_argument("--abandon", action="store_true", help="end without taking leave")
    storm.add_argument("--json", action="store_true", help="print one JSON object at the end")
    for each in (probe, crowd, part, watch):
        each.add_argument("--whep", required=True, metavar="URL", help="WHEP address of the channel")
    for each in (probe, crowd):
        each.add_argument("--json", action="store_true", help="print one JSON object at the end")
    probe.add_argument(
        "--seconds", type=float, default=20.0, help="how long to watch (20), from the first picture"
    )
    crowd.add_argument(
        "--seconds", type=float, default=30.0, help="how long to watch (30), from the last join on"
    )
    for each in (crowd, part):
        each.add_argument(
            "--stay", type=float, help="each leaves after so many seconds, and another takes its place"
        )
        each.add_argument(
            "--late", type=float, default=LATE_MS, help=f"a frame later than so many ms counts ({LATE_MS:g})"
        )
    crowd.add_argument(
        "--follow-moves",
        action=argparse.BooleanOptionalAction,
        help=f"go where the server moves a viewer to, by a connection each (up to {FOLLOWERS} viewers: yes)",
    )
    part.add_argument("--follow-moves", action="store_true")
    for each in (crowd, part):
        each.add_argument("--party", type=int, help="so many come together, and want to be on one edge")
    crowd.add_argument("--processes", type=int, help=f"how many (one a {VIEWERS_A_PROCESS} viewers)")
    for each in (crowd, part):
        each.add_argument("--viewers", type=int, default=100, help="how many (100)")
        each.add_argument("--ramp", type=float, default=20.0, help="how many come in a second (20)")
    return it


def main(argv: list[str]) -> int:
    as_json = "--json" in argv or "watch" in argv[:1]
    logging.basicConfig(level=logging.CRITICAL)
    try:
        if hasattr(signal, "pthread_sigmask"):  # a command that became us holds it back until here
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        args = _parser().parse_args(argv)
        if args.command == "signalling":
            return _signalling(args)
        whep = parse_url(args.whep, "--whep")
        if args.command == "part":
            return _part(whep, args)
        if args.command == "watch":
            return _watch(whep, args)
        if not 0 < args.seconds <= 86_400:
            raise UsageError("--seconds must be above 0", "Give one such as 20.")
        if args.command == "crowd":
            return _crowd(whep, args)
        return _probe(whep, args)
    except PublishError as error:
        tell_error(error, as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _probe(whep: str, args: argparse.Namespace) -> int:
    from media.swarm import probe  # aiortc takes a while: wrong words are answered before

    async def run() -> probe.Figures:
        return await probe.Probe(whep, args.seconds).run()

    figures = asyncio.run(run())
    print(json.dumps(probe.as_dict(figures)) if args.json else probe.for_people(figures))
    return 0


def _part(whep: str, args: argparse.Namespace) -> int:
    from media.swarm import part
    from media.swarm.whep import WhepDoor

    async def run() -> None:
        door, late_after = WhepDoor(whep, party=args.party), args.late / 1000
        moves = door if args.follow_moves else None
        await part.run(door, args.viewers, args.ramp, stay=args.stay, late_after=late_after, moves=moves)

    asyncio.run(run())
    return 0


def _watch(whep: str, args: argparse.Namespace) -> int:
    from media.swarm import watcher

    asyncio.run(watcher.run(whep, os.environ.pop("SHOWCALLER_TOKEN", "").strip(), args.edge))
    return 0


def _signalling(args: argparse.Namespace) -> int:
    from media.drive.loop import new_loop
    from media.swarm.signalling import joins, run, show

    apis = [parse_url(url, "--api").rstrip("/") for url in dict.fromkeys(args.api)]
    crowd = joins.Crowd(args.channel, args.joins, args.party_size, args.over, args.even, args.stay)
    token = os.environ.pop("SHOWCALLER_TOKEN", "").strip()
    plan = run.Plan(apis, token, args.nodes, crowd, args.control_listen, args.seed, args.abandon)
    with show.Display(crowd.joins) as display, asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            figures = runner.run(run.run(plan, display))
        except asyncio.CancelledError:  # before anybody has come
            return 130
    print(json.dumps(figures) if args.json else show.for_people(figures))
    whole = figures["joins"]["seated"] and not figures["joins"]["lost"] and not figures["nodes"]["overfilled"]
    return 0 if whole else 1


def _crowd(whep: str, args: argparse.Namespace) -> int:
    if not 0 < args.viewers <= MOST_VIEWERS:
        raise UsageError(f"--viewers must be 1 to {MOST_VIEWERS}", "Give one such as 100.")
    if not 0 < args.ramp <= 1000:
        raise UsageError("--ramp must be above 0 and at most 1000 a second", "Give one such as 20.")
    if not 0 < args.late <= 60_000:
        raise UsageError("--late must be above 0 and at most 60000 ms", f"Give one such as {LATE_MS:g}.")
    if args.party is not None and not 0 < args.party <= MOST_OF_A_PARTY:
        raise UsageError(f"--party must be 1 to {MOST_OF_A_PARTY}", "Give one such as 8.")
    least = args.viewers / args.ramp
    if args.stay is not None and not least <= args.stay <= 86_400:
        raise UsageError(
            f"--stay must be at least --viewers / --ramp, which is {least:g} s: the first would leave before "
            "the last have come",
            "Give a longer one, fewer viewers, or a quicker ramp.",
        )
    processes = args.processes or -(-args.viewers // VIEWERS_A_PROCESS)
    if not 0 < processes <= 4 * (os.cpu_count() or 1):
        raise UsageError(f"{processes} processes are too many for this machine", "Give fewer --processes.")

    from media.swarm import load, show

    plan = load.Plan(
        *(whep, args.viewers, args.ramp, args.seconds, min(processes, args.viewers)),
        stay=args.stay,
        late_after=args.late / 1000,
        follow_moves=args.viewers <= FOLLOWERS if args.follow_moves is None else args.follow_moves,
        party=args.party,
    )
    with show.Display(plan) as display:
        tally = asyncio.run(load.run(plan, display))
    figures = tally.figures()
    print(json.dumps(figures) if args.json else show.for_people(figures, args.late))
    return 0 if tally.now.playing and not tally.now.failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
