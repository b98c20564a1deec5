"""`showcaller swarm`: a crowd that watches; `signalling`: one that only joins, on a fleet without media."""

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from console.cli import context, output, processes
from console.cli.context import Api, Json, TokenFile, Yes

if TYPE_CHECKING:
    from console.core.client import Client

SIMULATED = "simulated"  # the version that such nodes enrol with
MOST_NODES = 1000
MOST_JOINS = 1_000_000
MOST_A_PARTY = 32


class _Swarm(TyperGroup):
    """`showcaller swarm main` is `showcaller swarm crowd main`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["crowd", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Swarm,
    help="Watch as a crowd (showcaller swarm CHANNEL), or only join as one. For your own servers only.",
)


app.command("crowd")(processes.swarm)


@app.command()
def signalling(
    nodes: int = typer.Option(
        170,
        "--nodes",
        metavar="N",
        min=1,
        max=MOST_NODES,
        help="Simulated edges; one origin comes with them.",
    ),
    joins: int = typer.Option(
        50_000, "--joins", metavar="N", min=1, max=MOST_JOINS, help="Viewers who join, each once."
    ),
    parties: int | None = typer.Option(
        None, "--parties", metavar="N", min=1, help="They come in so many parties of one size."
    ),
    party_size: int | None = typer.Option(
        None,
        "--party-size",
        metavar="N",
        min=1,
        max=MOST_A_PARTY,
        help="Or in parties of so many. Default: 8.",
    ),
    over: str = typer.Option("60s", "--over", metavar="TIME", help="Within so long: 60s, 5m."),
    even: bool = typer.Option(
        False, "--even", help="One after the other. Default: by chance, as people come (Poisson)."
    ),
    stay: str | None = typer.Option(
        None, "--stay", metavar="TIME", help="Each leaves after so long. Default: all stay to the end."
    ),
    channel: str = typer.Option(
        "signalling", "--channel", metavar="NAME", help="What they watch; nothing may be on air there."
    ),
    control_listen: str = typer.Option(
        "127.0.0.1",
        "--control-listen",
        metavar="ADDRESS",
        help="Where the simulated nodes are reached: for managers on other machines one of this machine's.",
    ),
    seed: int = typer.Option(1, "--seed", metavar="N", min=0, help="Of chance."),
    abandon: bool = typer.Option(
        False, "--abandon", help="End without taking leave: for a stage that is thrown away."
    ),
    yes: Yes = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Simulated nodes enrol and report, simulated viewers join them, all by the real API and without media.

    Tells what became of the joins, how long each took, and what they cost the stream managers. A stage
    without nodes of its own is what it is for: showcaller serve --no-nodes. On any other it asks first.
    """
    from console.core.errors import UsageError
    from console.core.units import count, parse_channel, parse_duration

    if parties is not None and party_size is not None:
        raise UsageError("--parties and --party-size say the same", "Give one of them")
    size = party_size or 8
    if parties is not None:
        size, rest = divmod(joins, parties)
        if rest or not 1 <= size <= MOST_A_PARTY:
            raise UsageError(
                f"{joins} joins do not make {parties} parties of one size of 1 to {MOST_A_PARTY}",
                "Give numbers that do, such as --joins 50000 --parties 6250",
            )
    over_s = parse_duration(over, least_s=1, most_s=86_400, of="--over")
    stay_s = None if stay is None else parse_duration(stay, least_s=1, most_s=86_400, of="--stay")
    words = ["signalling", "--channel", parse_channel(channel), "--nodes", str(nodes), "--joins", str(joins)]
    words += ["--party-size", str(size), "--over", f"{over_s:g}", "--seed", str(seed)]
    words += ["--control-listen", _address(control_listen)]
    found = context.target(api, token_file)

    async def real_nodes(client: "Client") -> list[str]:
        return [node.id for node in await client.nodes() if node.version != SIMULATED]

    if real := context.call(api, token_file, real_nodes):
        effect = (
            f"the stage has real nodes ({', '.join(real[:5])}{' ...' if len(real) > 5 else ''}): "
            f"{count(nodes, 'simulated edge')} and {count(joins, 'viewer')} without media come beside them"
        )
        if not output.confirm(effect, "Go on?", yes=yes):
            context.note("nothing was done")
            return 1
    words += [word for url in (found.api, *found.others) for word in ("--api", url)]
    words += [] if stay_s is None else ["--stay", f"{stay_s:g}"]
    words += [word for word, given in (("--even", even), ("--abandon", abandon), ("--json", json)) if given]
    return context.become("media.swarm", words, {"SHOWCALLER_TOKEN": found.token})


def _address(text: str) -> str:
    """An address that nodes can listen on and say that they are reached at."""
    from ipaddress import ip_address

    from console.core.errors import UsageError

    try:
        address = ip_address(text)
    except ValueError as error:
        raise UsageError(
            f"--control-listen {text!r} is no IP address", "Give one such as 10.0.0.5"
        ) from error
    if address.is_unspecified:
        raise UsageError(f"nobody is reached at {text}", "Give --control-listen an address of this machine's")
    return str(address)
