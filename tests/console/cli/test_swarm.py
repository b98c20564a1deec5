"""`showcaller swarm`: which crowd is meant, and what `signalling` refuses before it has said a word."""

import pytest

from console.cli.main import main


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOWCALLER_TOKEN", "of-nobody")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--parties 10 --party-size 8", "--parties and --party-size say the same"),
        ("--joins 50 --parties 7", "50 joins do not make 7 parties of one size"),
        ("--joins 50 --parties 1", "of 1 to 32"),
        ("--joins 5 --parties 50", "5 joins do not make 50 parties"),
        ("--joins 0", "--joins"),
        ("--nodes 1001", "--nodes"),
        ("--party-size 33", "--party-size"),
        ("--over soon", "'soon' is not a duration"),
        ("--over 0s", "out of range"),
        ("--stay never", "'never' is not a duration"),
        ("--channel ../up", "cannot name a channel"),
        ("--api ftp://example.net", "ftp://example.net"),
        ("--control-listen here", "'here' is no IP address"),
        ("--control-listen 0.0.0.0", "nobody is reached at 0.0.0.0"),
        ("main", "main"),  # it takes no channel as a word
    ],
)
def test_what_makes_no_sense_is_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = words.split()
    if "--api" not in given:
        given += ["--api", "http://127.0.0.1:1"]
    assert main(["swarm", "signalling", *given]) == 2
    assert said in capsys.readouterr().err


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", "signalling", "--api", "http://127.0.0.1:1"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--viewers", "none", "main"], ["crowd", "--viewers", "none", "main"]])
def test_a_crowd_is_meant_where_no_other_is_named(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["swarm", *words]) == 2
    assert "showcaller swarm crowd --help" in capsys.readouterr().err
