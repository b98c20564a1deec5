"""`python -m media.swarm probe --whep URL`: watch for a while, print what was seen."""

import argparse
import asyncio
import json
import logging
import sys
from typing import NoReturn

from media.publisher.errors import PublishError, UsageError
from media.publisher.logs import tell_error
from media.publisher.options import parse_url


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "See: python -m media.swarm probe --help")


def _parser() -> argparse.ArgumentParser:
    it = _Parser(prog="python -m media.swarm")
    commands = it.add_subparsers(dest="command", required=True)
    probe = commands.add_parser("probe", help="one real viewer that measures")
    probe.add_argument("--whep", required=True, metavar="URL", help="WHEP address of the channel")
    probe.add_argument(
        "--seconds", type=float, default=20.0, help="how long to watch (20), from the first picture"
    )
    probe.add_argument("--json", action="store_true", help="print one JSON object")
    return it


def main(argv: list[str]) -> int:
    as_json = "--json" in argv
    logging.basicConfig(level=logging.CRITICAL)
    try:
        args = _parser().parse_args(argv)
        whep = parse_url(args.whep, "--whep")
        if not 0 < args.seconds <= 86_400:
            raise UsageError("--seconds must be above 0", "Give one such as 20.")
        from media.swarm import probe  # aiortc takes a while: wrong words are answered before

        async def run() -> probe.Figures:
            return await probe.Probe(whep, args.seconds).run()

        figures = asyncio.run(run())
    except PublishError as error:
        tell_error(error, as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps(probe.as_dict(figures)) if as_json else probe.for_people(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
