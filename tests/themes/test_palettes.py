"""The palettes can be read: every text on every background it is drawn on."""

import pytest

from themes import MONOCHROME, PALETTES, Palette, contrast

BACKGROUNDS = ("background", "surface", "raised", "cursor")
TEXTS = ("text", "muted", "accent", "second", "good", "warn", "bad", "air")


@pytest.mark.parametrize("palette", [*PALETTES, MONOCHROME], ids=lambda palette: palette.name)
def test_every_colour_is_one(palette: Palette) -> None:
    assert palette.mistakes() == []


def test_a_mistake_is_told() -> None:
    broken = Palette(
        **{**dict.fromkeys(PALETTES[0].colours(), "red"), "name": "x", "title": "X", "dark": True}
    )
    assert "text is 'red', not #rrggbb" in broken.mistakes()


@pytest.mark.parametrize("palette", PALETTES, ids=lambda palette: palette.name)
def test_text_stands_out(palette: Palette) -> None:
    """4.5:1 as WCAG asks, 3:1 on the chosen row, 7:1 where high contrast is promised."""
    for text in TEXTS:
        for background in BACKGROUNDS:
            least = 7.0 if palette.name == "high-contrast" else 3.0 if background == "cursor" else 4.5
            ratio = contrast(getattr(palette, text), getattr(palette, background))
            assert ratio >= least, f"{text} on {background}: {ratio:.1f}"


def test_good_and_bad_do_not_differ_by_red_and_green_alone() -> None:
    """In the palette for it, good is bluer and bad is redder: apart with any red-green blindness."""
    palette = next(p for p in PALETTES if p.name == "colour-blind-safe")
    assert int(palette.good[5:7], 16) > int(palette.bad[5:7], 16) + 60


def test_names_are_unique_and_the_choice_is_wide() -> None:
    names = [palette.name for palette in PALETTES]
    assert len(set(names)) == len(names)
    assert {"dark", "light", "high-contrast", "colour-blind-safe"} <= set(names)
    assert {palette.dark for palette in PALETTES} == {True, False}
