"""How people name a recorded load, and what is read of a file of it."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core import history
from console.core.errors import UsageError
from console.core.history import line_of, parse_on, read_file
from controlplane.wire.fleet import Span
from controlplane.wire.history import header, written
from tests.controlplane.histories import minute


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("last:24h", Span(last_s=86_400)),
        ("last:90m", Span(last_s=5400)),
        ("last:7d", Span(last_s=604_800)),
        ("2026-11-26T18:00Z..2026-11-26T23:00+00:00", Span(start=1_795_716_000, end=1_795_734_000)),
        ("2026-11-26T19:00+01:00..2026-11-26T20:00+01:00", Span(start=1_795_716_000, end=1_795_719_600)),
    ],
)
def test_a_time_is_read(text: str, span: Span) -> None:
    assert parse_on(text) == span


def test_a_time_without_a_zone_is_this_machines() -> None:
    span = parse_on("2026-11-26 18:00..2026-11-27")
    assert isinstance(span, Span)
    assert (span.start, span.end) == (
        datetime.fromisoformat("2026-11-26T18:00").timestamp(),
        datetime.fromisoformat("2026-11-27").timestamp(),
    )


def test_a_file_is_one_by_its_ending_or_because_it_is_there(tmp_path: Path) -> None:
    assert parse_on("../week.jsonl") == Path("../week.jsonl")
    (tmp_path / "week..day").write_text("")
    assert parse_on(str(tmp_path / "week..day")) == tmp_path / "week..day"


@pytest.mark.parametrize(
    "text",
    ["", "24h", "last:", "last:soon", "last:8d", "last:0s", "..", "2026-11-26..", "a..b", "LAST:1h", "/no",
     "2026-11-27..2026-11-26", "2026-11-26..2026-11-26", "2026-01-01..2026-02-01", "0001-01-01..x"],
)  # fmt: skip
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_on(text)
    assert refused.value.next_step


@given(st.text(max_size=30))
def test_whatever_is_named_is_read_or_refused(text: str) -> None:
    try:
        parse_on(text)
    except UsageError:
        pass


@given(st.datetimes(), st.datetimes())
def test_any_two_moments_are_a_time_or_refused(first: datetime, last: datetime) -> None:
    try:
        parse_on(f"{first.isoformat()}..{last.isoformat()}")
    except UsageError:
        pass


def test_of_a_file_the_group_that_was_named_is_taken_or_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    edge, origin = minute(0, [1, 5]), minute(0, [2], group="origin@local")
    path.write_bytes(header() + written(edge) + written(origin) + b"rubbish\n" + written(edge)[:9])
    for name in ("edge", "edge@local"):
        recorded = read_file(path, name)
        assert (recorded.lines, recorded.torn, recorded.damaged_in_all) == ([edge], 1, 1)
    with pytest.raises(
        UsageError, match=r"several groups, and none is 'edge@mars': edge@local, origin@local"
    ):
        read_file(path, "edge@mars")
    path.write_bytes(header() + written(edge))
    assert read_file(path, "edge@mars").lines == [edge], "of another stage, say"
    assert line_of(edge).encode() + b"\n" == written(edge)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "has no line that can be read"),
        (b"diary", "is no recorded history"),
        (b'{"showcaller_history": 3}\n', "is a history of version 3, and this Showcaller reads version 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_file(path, "edge")
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_of_a_file_without_a_line_that_can_be_read_each_fault_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = b'{"at": 60, "group": "edge@local", "connections": [1, -2], "in_service": -1}\n'
    path.write_bytes(header() + bad + bad.replace(b"-1", b"1"))
    with pytest.raises(UsageError) as refused:
        read_file(path, "edge")
    assert refused.value.details == [
        f"left out: {path}, line 2: in_service: -1 is below 0",
        f"left out: {path}, line 3: connections: a load below zero",
    ]


def test_a_file_that_is_too_long_to_be_sent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(header() + b"".join(written(minute(60 * at, [at])) for at in range(20)))
    assert len(read_file(path, "edge").lines) == 20
    monkeypatch.setattr(history, "MOST_SENT", 1000)
    with pytest.raises(UsageError, match="can be sent"):
        read_file(path, "edge")
