"""Settings: the sample documents every key with its default; a wrong key or value is named."""

import tomllib
from pathlib import Path

import pytest

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
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "manager.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=says):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"gone\.toml cannot be read"):
        load(tmp_path / "gone.toml")
