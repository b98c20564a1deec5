"""The status line where there is no terminal: what is known, and nothing else."""

from console.cli.headless import status_words
from controlplane.wire.api import LatencyView
from tests.console.screens.stand import stream


def test_until_it_is_live_for_the_first_time_it_is_starting() -> None:
    assert status_words(None, "starting", "") == ["starting"]
    begun = stream(state="connecting", bitrate_bps=None, fps=None, viewers=0, latency_ms=LatencyView())
    assert status_words(begun, "starting", "") == ["starting", "0 viewers"]
    assert status_words(None, "", "") == ["not on air"]
    assert status_words(None, "starting", "nobody answers") == ["nobody answers"]


def test_figures_that_are_known_and_how_old_the_latency_is() -> None:
    live = stream(viewers=1, latency_ms=LatencyView(p50=90.0, p95=164.4, age_s=2.04))
    assert status_words(live, "", "") == [
        "live",
        "4.48 Mbps",
        "30.0 fps",
        "1 viewer",
        "latency p95 164 ms, 2 s old",
    ]
