"""config/console.toml: the sample is the defaults, and what is wrong is said with file and key."""

import tomllib
from pathlib import Path

import pytest

import console.core.config
from console.core.config import Config, ConfigError, config_file, load_config
from console.core.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_the_sample_shows_every_key_with_its_default() -> None:
    path = Path(console.core.config.__file__).with_name("config-sample.toml")
    sample = tomllib.loads(path.read_text())
    assert Config.model_validate(sample) == Config()
    assert set(sample) == set(Config.model_fields)
    assert set(sample["stage"]) == set(type(Config().stage).model_fields)


def test_without_a_file_the_defaults_count(home: Home) -> None:
    assert load_config(home) == Config()


def test_what_is_set_is_read(home: Home) -> None:
    config_file(home).write_text('[stage]\nport = 9000\nannounce = ["192.0.2.7"]\n')
    stage = load_config(home).stage
    assert (stage.port, stage.announce, stage.listen) == (9000, ("192.0.2.7",), "127.0.0.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[stage]\nprot = 1\n", "no setting stage.prot"),
        ("[stag]\n", "no setting stag"),
        ("[stage]\nport = 'x'\n", "stage.port"),
        ("[stage]\nport = 70000\n", "stage.port"),
        ("[stage\n", "no TOML"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(home: Home, text: str, words: str) -> None:
    config_file(home).write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(home)
    assert words in str(refused.value)
    assert str(config_file(home)) in str(refused.value)
    assert refused.value.next_step
