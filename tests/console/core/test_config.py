"""config/console.toml: the sample is the defaults, and what is wrong is said with file and key."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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


def test_it_is_utf_8_whatever_the_locale(home: Home) -> None:
    config_file(home).write_bytes('[stage]\nlisten = "bühne.example"\n'.encode())
    code = "from console.core.config import load_config; from console.core.paths import home_from; "
    code += "print(ascii(load_config(home_from()).stage.listen))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        env={"SHOWCALLER_HOME": str(home.root), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == ascii("bühne.example"), done.stderr


known = ["[stage]", *(f"{name} = " for name in type(Config().stage).model_fields)]
value = st.one_of(
    st.integers().map(str),
    st.text().map(repr),
    st.sampled_from(
        ["", "true", "['192.0.2.7']", "[1]", "{a = 1}", "1e999", "2021-13-45", "'a'", '"\\ud800"']
    ),
)
lines = st.lists(
    st.one_of(st.builds("{}{}".format, st.sampled_from(known), value), st.text()), max_size=6
).map("\n".join)


@given(st.binary() | lines.map(lambda text: text.encode(errors="surrogatepass")))
@example(b"a = " + b"9" * 5000)  # more digits than Python turns into a number
@example(b"a = " + b"[" * 20_000)
@example(b"\xff")
def test_any_file_is_settings_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, written: bytes
) -> None:
    home = Home(tmp_path_factory.getbasetemp() / "any-console")
    home.config.mkdir(parents=True, exist_ok=True)
    config_file(home).write_bytes(written)
    try:
        stage = load_config(home).stage
    except ConfigError:
        return
    assert -1 <= stage.port <= 65_535
    assert stage.listen


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
