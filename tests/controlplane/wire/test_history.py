"""The recorded load as text: what is written is read again, and nothing that is read can break the reader."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.wire.history import (
    BOM,
    MINUTE,
    MOST,
    BadHistory,
    FutureHistory,
    HistoryLine,
    NotAHistory,
    Recorded,
    header,
    read,
    series,
    written,
)
from tests.controlplane.histories import minute

LOADS = st.lists(st.integers(0, MOST), min_size=1, max_size=MINUTE)
SMALL = st.integers(0, 2000)
COUNTED = ("waiting", "refused", "in_service", "launching", "suspect", "draining", "capacity")
LINES = st.builds(
    lambda at, group, loads, more: HistoryLine(
        at=at, group=group, seconds=len(loads), connections=series(loads), **more
    ),
    st.integers(0, 4_000_000_000),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    LOADS,
    st.fixed_dictionaries(
        {},
        optional={
            "publishers": st.just([7]),
            "mbps": st.just([800]),
            "unit": st.sampled_from(["connections", "publishers", "mbps"]),
        }
        | dict.fromkeys(COUNTED, SMALL),
    ),
)


def lines_of(text: bytes, name: str = "a.jsonl") -> Recorded:
    recorded = Recorded()
    read(name, io.BytesIO(text), recorded)
    return recorded


@given(LOADS)
def test_a_load_comes_back_second_by_second(loads: list[int]) -> None:
    line = HistoryLine(at=0, group="edge@local", seconds=len(loads), connections=series(loads))
    assert line.load("connections") == line.load("publishers") == loads
    assert line.load("mbps") == [0] * len(loads)


@given(st.lists(LINES, max_size=8))
def test_what_is_written_is_read_again(lines: list[HistoryLine]) -> None:
    text = header("the stage") + b"".join(map(written, lines))
    assert text.count(b"\n") == len(lines) + 1
    assert lines_of(text) == Recorded(lines)


def test_a_quiet_line_is_short_and_says_what_it_is() -> None:
    line = HistoryLine(at=1764145740, group="edge@local", in_service=1, capacity=400)
    assert json.loads(written(line)) == {
        "at": 1764145740, "group": "edge@local", "in_service": 1, "capacity": 400,
    }  # fmt: skip


@given(st.binary(max_size=200), st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_are_read_or_refused(first: bytes, more: list[bytes]) -> None:
    for text in (first + b"\n" + b"\n".join(more), header() + b"\n".join([first, *more])):
        try:
            recorded = lines_of(text)
        except BadHistory:
            continue
        assert recorded.torn in (0, 1)
        assert len(recorded.damaged) <= recorded.damaged_in_all <= text.count(b"\n")


@given(st.data())
def test_a_genuine_file_that_was_bent_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(header() + b"".join(written(minute(at * 60, [at, 7])) for at in range(4)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["cut", "bend", "double"]))
        if kind == "cut":
            del text[place : place + data.draw(st.integers(1, 40))]
        elif kind == "double":
            text[place:place] = text[:place]
        else:
            text[place : place + 1] = data.draw(st.binary(max_size=3))
    try:
        recorded = lines_of(bytes(text))
    except BadHistory:
        return
    for line in recorded.lines:
        assert len(line.load("connections")) == line.seconds
        assert min(line.load("connections")) >= 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": 1.5},
        {"at": -1},
        {"at": 10**30},
        {"at": True},
        {"group": ""},
        {"connections": []},
        {"connections": [5, -6]},
        {"connections": [1] * 61},
        {"connections": [1, 2, 3], "seconds": 2},
        {"connections": ["1"]},
        {"connections": [1e400]},
        {"seconds": 0},
        {"seconds": 61},
        {"in_service": -1},
        {"mbps": None},
    ],
)
def test_a_line_that_makes_no_sense_is_named_and_the_others_are_read(wrong: dict[str, object]) -> None:
    good = written(minute(60, [3]))
    bad = json.dumps({"at": 0, "group": "edge@local"} | wrong).encode() + b"\n"
    recorded = lines_of(header() + good + bad + good)
    assert len(recorded.lines) == 2
    (where,) = recorded.damaged
    assert where.startswith("a.jsonl, line 3: ")
    assert recorded.torn == 0


def test_a_torn_last_line_is_counted_and_is_no_damage() -> None:
    text = header() + written(minute(0, [3])) + written(minute(60, [3]))
    recorded = lines_of(text[:-20])
    assert (len(recorded.lines), recorded.torn, recorded.damaged_in_all) == (1, 1, 0)
    assert lines_of(text[:-1]).torn == 0, "whole, but for its end"
    ended = lines_of(text[:-20] + b"\n")
    assert (ended.torn, ended.damaged_in_all) == (0, 1), "somebody wrote this"


def test_of_a_version_from_the_future_nothing_is_read() -> None:
    future = b'{"showcaller_history": 2, "stage": {"name": "x"}}\n'
    for text in (future + written(minute(0, [3])), header() + written(minute(0, [3])) + future):
        recorded = Recorded()
        with pytest.raises(FutureHistory, match=r"^b\.jsonl is a history of version 2, .* version 1 at most"):
            read("b.jsonl", io.BytesIO(text), recorded)


@pytest.mark.parametrize(
    "first",
    [b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"showcaller_history": "1"}\n', b'{"showcaller_history": 0}\n',
     b'{"showcaller_history": true}\n', b'{"showcaller_history": 1.5}\n', b"[" * 5000 + b"\n"],
)  # fmt: skip
def test_what_does_not_begin_as_a_history_is_none(first: bytes) -> None:
    with pytest.raises(NotAHistory, match=r"^c\.jsonl is no recorded history"):
        lines_of(first + written(minute(0, [3])), "c.jsonl")
    assert lines_of(b"") == Recorded()


def test_files_that_were_joined_or_went_through_an_editor_are_read() -> None:
    one = header("one") + written(minute(0, [3]))
    two = header("two") + written(minute(60, [4]))
    assert lines_of(one + two).lines == [minute(0, [3]), minute(60, [4])]
    assert lines_of(BOM + one.replace(b"\n", b"\r\n") + b"\r\n").lines == [minute(0, [3])]


def test_of_many_damages_some_are_named_and_all_are_counted() -> None:
    recorded = lines_of(header() + b"rubbish\n" * 1000)
    assert (len(recorded.damaged), recorded.damaged_in_all) == (20, 1000)
