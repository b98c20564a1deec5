"""The registry of actions, and what is made from it: keys, footer, help, palette, command line."""

import re
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import actions, commands
from console.actions import ACTIONS, BY_ID, PAGES, key_name
from console.app import ConsoleApp
from console.handlers.base import Handlers
from console.screens.help.screen import help_lines
from console.screens.shared.dialog import Dialog
from console.screens.shared.page import Page
from console.screens.shared.words import plain
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import snapshot


def test_every_action_is_done_somewhere_and_nothing_else_is() -> None:
    handlers = {name.removeprefix("do_") for name in dir(ConsoleApp) if name.startswith("do_")}
    assert handlers == set(BY_ID)


@pytest.mark.parametrize("page", [*PAGES, "node"])
def test_a_key_means_one_thing_on_a_page(page: str) -> None:
    keys = [key for action in ACTIONS if page in action.pages for key in action.keys]
    assert len(keys) == len(set(keys))


def test_footers_name_actions_that_work_there() -> None:
    assert set(actions.FOOTERS) == {*PAGES, "node"}
    for page, names in actions.FOOTERS.items():
        for name in names:
            assert page in BY_ID[name].pages, f"{name} on {page}"
    for name in actions.ALWAYS:
        assert BY_ID[name].pages == actions.EVERYWHERE


def below(kind: type[Any]) -> set[type[Any]]:
    return {deeper for child in kind.__subclasses__() for deeper in (child, *below(child))}


def test_every_page_and_dialog_has_what_it_must_have_of_its_own() -> None:
    assert not [page for page in below(Page) if page.show_body is Page.show_body]
    assert not [dialog for dialog in below(Dialog) if dialog.chosen is Dialog.chosen]
    assert ConsoleApp.look is not Handlers.look
    assert ConsoleApp.remember_palette is not Handlers.remember_palette
    assert ConsoleApp.reset_counters is not Handlers.reset_counters


def test_what_changes_the_stage_has_a_plain_command() -> None:
    """For those whom a screen does not serve."""
    assert not [action.id for action in ACTIONS if action.writes and not action.command]
    for action in ACTIONS:
        assert not action.command or action.command.startswith("showcaller ")


def test_words_are_unique() -> None:
    words = [word for action in ACTIONS for word in action.words]
    assert len(words) == len(set(words))


def test_the_help_names_every_action_with_key_word_and_command() -> None:
    text = "\n".join(plain(line) for line in help_lines("fleet", 200))
    for action in ACTIONS:
        assert action.title in text
        assert key_name(action.keys[0]) in text
        assert action.command in text
        for word in action.words[:1]:
            assert f":{word}" in text


@pytest.mark.parametrize("width", [30, 72, 98])
def test_nothing_of_the_help_is_cut(width: int) -> None:
    lines = [plain(line) for line in help_lines("fleet", width)]
    assert not [line for line in lines if "…" in line]
    text = re.sub(r"\s+", " ", " ".join(lines))
    for action in ACTIONS:
        assert action.title in text
        assert action.command in text
    assert all(len(line.rstrip()) <= width for line in lines)


def test_every_key_is_bound() -> None:
    bound = {binding.key for binding in ConsoleApp.BINDINGS if not isinstance(binding, tuple)}
    assert bound == {key for action in ACTIONS for key in action.keys} - {ConsoleApp.COMMAND_PALETTE_BINDING}


# --- the command line


@pytest.mark.parametrize(
    ("line", "action", "argument"),
    [
        ("drain edge-2 60s", "drain", "edge-2 60s"),
        (":drain edge-2", "drain", "edge-2"),
        ("dra edge-2", "drain", "edge-2"),
        ("2", "fleet", ""),
        ("q", "quit", ""),
        ("NODES", "fleet", ""),
        ("add origin", "add", "origin"),
        ("theme light", "theme", "light"),
    ],
)
def test_a_line_is_understood(line: str, action: str, argument: str) -> None:
    found = commands.parse(line)
    assert (found.action.id, found.argument) == (action, argument)


@pytest.mark.parametrize(
    ("line", "says"),
    [("", "nothing entered"), ("drian edge-2", "drain?"), ("xyzzy", "? lists them"), ("9", "no command"),
     ("st", "start or stop")],
)  # fmt: skip
def test_a_line_that_cannot_be_meant_says_what_to_enter(line: str, says: str) -> None:
    with pytest.raises(commands.CommandError, match=re.escape(says)):
        commands.parse(line)


def test_publish_words() -> None:
    assert commands.parse_publish("") == commands.PublishWords()
    wanted = commands.PublishWords("/a b.mp4", "main", "2M", loop=True)
    assert commands.parse_publish("'/a b.mp4' main 2M loop") == wanted
    assert commands.parse_publish("loop") == commands.PublishWords("loop")
    with pytest.raises(commands.CommandError, match="quotation"):
        commands.parse_publish("'/a b.mp4 main")
    with pytest.raises(commands.CommandError, match="too many"):
        commands.parse_publish("test main 2M 3M")


typed = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [*commands.WORDS, "loop", "copy", "test", "main", "4.5M", "'", '"', "\\", ":", "\ud800"]
        ),
    ),
    max_size=6,
).map(" ".join)


@given(typed)
def test_any_line_is_an_action_with_its_words_or_is_refused(line: str) -> None:
    try:
        found = commands.parse(line)
    except commands.CommandError:
        return
    assert found.action in ACTIONS
    assert found.argument in line


@given(typed)
def test_any_words_after_publish_are_a_broadcast_or_are_refused(argument: str) -> None:
    try:
        found = commands.parse_publish(argument)
    except commands.CommandError:
        return
    words = shlex.split(argument)
    assert {found.source, found.channel, found.bitrate} <= {*words, "test", "main", "4.5M"}
    assert (found.loop, found.copy) == tuple(
        flag in (word.lower() for word in words[1:]) for flag in ("loop", "copy")
    )


async def test_the_command_line_acts_and_says_what_is_wrong(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.press("colon")
        await it.type("xyzzy")
        await it.press("enter")
        await it.until_shown("no command 'xyzzy'")
        await it.press("escape")
        await it.press("colon")
        await it.type("fleet")
        await it.press("enter")
        assert it.page.NAME == "fleet"
        await it.press("colon", "up")
        await it.until_shown(":fleet")


async def test_the_palette_finds_an_action(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.press("ctrl+p")
        await it.type("journal")
        await it.until_shown("Journal: what happened")
        await it.press("enter")
        await it.until_shown("Journal, 7 entries")


async def test_an_action_named_elsewhere_goes_to_its_page(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.press("colon")
        await it.type("why")
        await it.press("enter")
        assert it.page.NAME == "fleet"
        await it.until_shown("Why: origin-1")


async def test_the_footer_can_be_clicked(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        line = it.text().splitlines()[-1]
        await it.pilot.click("#keys", offset=(line.index("? keys"), 0))
        await it.until_shown("Keys and commands")


async def test_the_pages_can_be_clicked(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        line = it.text().splitlines()[1]
        await it.pilot.click("#tabs", offset=(line.index("Journal"), 0))
        await it.pilot.pause()
        assert it.page.NAME == "journal"
