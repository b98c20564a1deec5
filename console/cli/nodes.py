"""`showcaller nodes`: every node and what it carries."""

import time

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile


def nodes(json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """The nodes: role, state and for how long, connections against capacity, egress."""
    from console.core.units import show_bitrate, show_duration, show_number, show_state
    from controlplane.wire.api import NodeView

    found = context.call(api, token_file, lambda client: client.nodes())
    if json:
        output.print_json([output.shape(node, NodeView) for node in found])
        return
    if not found:
        context.note("no nodes; add one with `showcaller fleet add edge`")
        return
    output.print_table(
        ("node", "role", "region", "state", "for", "connections", "capacity", "egress", "heard"),
        [
            (
                node.id,
                node.role,
                node.region,
                show_state(node.state),
                show_duration(max(0.0, time.time() - node.state_since)),
                show_number(node.connections),
                show_number(node.capacity),
                show_bitrate(node.egress_bps),
                show_duration(node.age_s),
            )
            for node in found
        ],
        numbers=(4, 5, 6, 7, 8),
    )
