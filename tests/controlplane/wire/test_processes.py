"""Records of processes: written whole, read with whatever else lies there."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.wire.processes import (
    ProcessRecord,
    alive,
    read_alive,
    read_all,
    record_self_or_child,
    remove,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
record = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("edge-1") | values,
        "kind": st.sampled_from(["supervisor", "node", "publisher"]) | values,
        "pid": st.integers() | st.just(os.getpid()) | values,
        "start_time": st.floats() | values,
    },
)
whole = b'{"name":"edge-1","kind":"node","pid":1,"start_time":1.0}'


@given(
    st.one_of(
        st.binary(),
        (record | values).map(lambda value: json.dumps(value).encode()),
        st.integers(0, len(whole)).map(lambda end: whole[:end]),
    )
)
@example(b"[" * 100_000)
@example(b'{"name":"edge-1","kind":"node","pid":1%s,"start_time":1.0}' % (b"0" * 400))  # no path so long
@example(b'{"name":"edge-1","kind":"node","pid":-1,"start_time":1.0}')
def test_whatever_lies_there_the_others_are_read(
    tmp_path_factory: pytest.TempPathFactory, written: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-records"
    ours = record_self_or_child(folder, "manager", "manager", os.getpid())
    (folder / "edge-1.json").write_bytes(written)
    found = read_all(folder)
    assert ours in found
    assert all(isinstance(one, ProcessRecord) and one.pid > 0 for one in found)
    assert ours in read_alive(folder)


def test_a_record_goes_with_its_name(tmp_path: Path) -> None:
    ours = record_self_or_child(tmp_path, "edge-1/worker-0", "worker", os.getpid())
    assert ours is not None
    assert alive(ours)
    assert read_all(tmp_path) == [ours]
    remove(tmp_path, "edge-1/worker-0")
    remove(tmp_path, "edge-1/worker-0")
    assert read_all(tmp_path) == []
