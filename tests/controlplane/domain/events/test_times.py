"""Moments as people write them: offsets, clocks on walls, the days the clocks are changed."""

import contextlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.events.times import NoMoment, iso, moment, spoken

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 26, 8, 30, tzinfo=UTC).timestamp()  # a Thursday


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-11-28T20:00", "2026-11-28T19:00+00:00"),
        ("2026-11-28 20:00:30", "2026-11-28T19:00:30+00:00"),
        ("2026-11-28T20:00Z", "2026-11-28T20:00+00:00"),
        ("2026-11-28T20:00-05:00", "2026-11-29T01:00+00:00"),
        ("2026-07-01T20:00", "2026-07-01T18:00+00:00"),  # summer time
        ("20:00", "2026-11-26T19:00+00:00"),
        ("9:30", "2026-11-27T08:30+00:00"),  # it is that now: tomorrow
        ("9:31", "2026-11-26T08:31+00:00"),
        (" +1d2h3m4s ", "2026-11-27T10:33:04+00:00"),
        ("+30m", "2026-11-26T09:00+00:00"),
    ],
)
def test_a_moment_is_read(text: str, means: str) -> None:
    assert moment(text, BERLIN, NOW) == at(means)


def test_a_time_of_day_is_the_next_one_after_the_start() -> None:
    start = at("2026-11-28T23:00+01:00")
    assert moment("02:00", BERLIN, NOW, after=start) == at("2026-11-29T02:00+01:00")
    assert moment("23:00", BERLIN, NOW, after=start) == at("2026-11-29T23:00+01:00")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("soon", "is no time"),
        ("", "is no time"),
        ("+", "is no time"),
        ("+2w", "is no time"),
        ("24:00", "is no time"),
        ("2026-02-30T20:00", "is no time"),
        ("2026-11-28", "without a time of day"),
        ("2026-W48-6", "without a time of day"),
        ("+9999999999h", "is no time"),
        # 2027-03-28: from 02:00 to 03:00; 2027-10-31: from 03:00 back to 02:00
        ("2027-03-28T02:30", "there is no 02:30 on 2027-03-28 in Europe/Berlin"),
        ("2027-10-31T02:30", "write 2027-10-31T02:30+02:00 or 2027-10-31T02:30+01:00"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(NoMoment) as refused:
        moment(text, BERLIN, NOW)
    assert says in str(refused.value)


def test_an_hour_that_comes_twice_is_told_apart_by_its_offset() -> None:
    summer, winter = (moment(f"2027-10-31T02:30+0{hours}:00", BERLIN, NOW) for hours in (2, 1))
    assert winter - summer == 3600
    assert [iso(it, BERLIN) for it in (summer, winter)] == [
        "2027-10-31T02:30:00+02:00",
        "2027-10-31T02:30:00+01:00",
    ]


def test_a_time_of_day_that_is_left_out_is_not_put_off_by_a_day() -> None:
    night = at("2027-03-28T00:10+01:00")
    with pytest.raises(NoMoment):
        moment("02:30", BERLIN, night)
    assert moment("03:30", BERLIN, night) - night == 2 * 3600 + 20 * 60  # an hour less than the clock says


@given(
    wall=st.datetimes(*(datetime.fromisoformat(it) for it in ("2000-01-01", "2037-12-31"))),
    place=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"]),
)
def test_what_a_clock_shows_is_read_as_that_or_refused(wall: datetime, place: str) -> None:
    there = ZoneInfo(place)
    try:
        found = moment(wall.isoformat(), there, NOW)
    except NoMoment:
        offsets = {wall.replace(tzinfo=there, fold=fold).utcoffset() for fold in (0, 1)}
        assert len(offsets) == 2, "only where the clocks are changed"
    else:
        assert datetime.fromtimestamp(found, there).replace(tzinfo=None) == wall
        assert moment(datetime.fromtimestamp(found, there).isoformat(), there, NOW) == found


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(NoMoment):
        assert isinstance(moment(text, BERLIN, NOW), float)


def test_a_moment_is_said_with_its_place() -> None:
    assert spoken(at("2026-11-28T20:00+01:00"), BERLIN) == "Sat 28 Nov 2026 20:00 Europe/Berlin"
    assert spoken(at("2026-11-28T20:00:07+01:00"), BERLIN) == "Sat 28 Nov 2026 20:00:07 Europe/Berlin"
