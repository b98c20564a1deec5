"""Moments as people read them, and how a machine calls its time zone."""

from datetime import datetime
from pathlib import Path

import pytest

from console.core.when import local_zone, show_moment, show_span, until


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOW = at("2026-11-26T08:30+00:00")


@pytest.mark.parametrize(
    ("starts", "ends", "zone", "said"),
    [
        ("2026-11-28T19:00Z", "2026-11-28T21:00Z", "Europe/Berlin",
         "Sat 28 Nov 20:00 to 22:00 Europe/Berlin"),
        ("2026-11-28T19:00Z", "2026-11-28T23:30Z", "Europe/Berlin",
         "Sat 28 Nov 20:00 to Sun 29 Nov 00:30 Europe/Berlin"),
        ("2026-12-31T23:00Z", "2027-01-01T01:00:05Z", "UTC",
         "Thu 31 Dec 23:00 to Fri 1 Jan 2027 01:00:05 UTC"),
        ("2026-11-28T19:00Z", "2026-11-28T21:00Z", "Europe/Atlantis", "Sat 28 Nov 19:00 to 21:00 UTC"),
        # The night the clocks are put back: three hours by the clock are four
        ("2026-10-24T23:00Z", "2026-10-25T03:00Z", "Europe/Berlin",
         "Sun 25 Oct 01:00 to 04:00 Europe/Berlin (4 h 00: the clocks are changed)"),
    ],
)  # fmt: skip
def test_a_span_is_said_in_its_zone(starts: str, ends: str, zone: str, said: str) -> None:
    assert show_span(at(starts), at(ends), zone, NOW) == said


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (0.5, "now"),
        (4.2, "in 4.2 s"),
        (90, "in 90 s"),
        (1800, "in 30 min"),
        (-300, "5 min ago"),
        (5 * 3600, "in 5 h 00"),
        (2 * 86_400 + 41_000, "in 2 days"),
        (-3 * 86_400, "3 days ago"),
    ],
)
def test_how_far_away_it_is(away: float, said: str) -> None:
    assert until(NOW + away, NOW) == said


def test_the_year_is_said_where_it_is_another_one() -> None:
    assert show_moment(at("2027-03-01T12:00Z"), "UTC", NOW) == "Mon 1 Mar 2027 12:00"


def test_the_zone_of_the_machine(tmp_path: Path) -> None:
    clock, names = tmp_path / "localtime", tmp_path / "timezone"

    def told(environment: dict[str, str] | None = None) -> str | None:
        return local_zone(environment or {}, clock, names)

    assert told() == "UTC"  # nothing says anything
    assert told({"TZ": "Asia/Tokyo"}) == "Asia/Tokyo"
    assert told({"TZ": ":/usr/share/zoneinfo/Asia/Tokyo"}) == "Asia/Tokyo"
    assert told({"TZ": ""}) == "UTC"
    assert told({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}) is None  # rules without a name
    names.write_text("Europe/Berlin\n")
    assert told() == "Europe/Berlin"
    clock.symlink_to("/usr/share/zoneinfo/America/Lima")
    assert told() == "America/Lima"
    clock.unlink()
    clock.write_bytes(b"TZif2")  # a copy, which says no name
    names.unlink()
    assert told() is None
