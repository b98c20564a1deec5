"""Settings: the sample documents every key with its default; a wrong key or value is named."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.config import SAMPLE, ManagerConfig, load
from controlplane.errors import StartError


def test_the_sample_shows_every_key_with_its_default() -> None:
    assert tomllib.loads(SAMPLE.read_text()) == ManagerConfig().model_dump()
    assert load(SAMPLE) == load(None) == ManagerConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[fleet]\nedgs = 2\n", "fleet.edgs: there is no such key"),
        ("[flet]\n", "flet: there is no such key"),
        ("[fleet]\nedges = -1\n", "fleet.edges: "),
        ("[fleet]\nedge_capacity = 'many'\n", "fleet.edge_capacity: "),
        ("[fleet\n", "not TOML"),
        (
            "[prices]\nnode_hour = -1\nscurrency = '$'\n[budget]\nper_hour = nan\n",
            "prices.node_hour: .*; prices.scur.*; budget.per_hour: ",
        ),
        ("[prices]\ncurrency = '1'\n", "prices.currency: "),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "manager.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=says):
        load(path)


known = [f"[{name}]" for name in ManagerConfig.model_fields] + [
    key for section in ManagerConfig().model_dump().values() for key in section
]
value = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text().map(repr),
    st.sampled_from(
        ["true", "[1, 2]", "{a = 1}", "2021-13-45", "1979-05-27", "0x", "'a'", '"\\ud800"', "9" * 5000]
    ),
)
setting = st.builds("{} = {}".format, st.sampled_from(known) | st.text(max_size=8), value)
lines = st.lists(st.one_of(st.sampled_from(known), setting, st.text()), max_size=6).map("\n".join)


@given(st.binary() | lines.map(lambda text: text.encode(errors="surrogatepass")))
@example(b"a = " + b"9" * 5000)  # more digits than Python turns into a number
@example(b"a = " + b"[" * 20_000)
@example(b"\xff")
def test_any_file_is_settings_or_a_start_error(
    tmp_path_factory: pytest.TempPathFactory, written: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-manager.toml"
    path.write_bytes(written)
    try:
        settings = load(path)
    except StartError:
        return
    assert ManagerConfig.model_validate(settings.model_dump()) == settings


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"gone\.toml cannot be read"):
        load(tmp_path / "gone.toml")
