"""The palettes that come with the console. The first is the one used until another is chosen.

`colour-blind-safe` keeps to hues that stay apart with red-green blindness (blue, yellow, orange, after Okabe
and Ito); `high-contrast` keeps every text at 7:1 or more on every background it is drawn on.
"""

from themes.palette import Palette

DARK = Palette(
    name="dark",
    title="Dark",
    dark=True,
    text="#dfe4ea",
    muted="#94a0ae",
    background="#11151b",
    surface="#161b22",
    raised="#1f2731",
    line="#3b4755",
    accent="#5cc8f5",
    second="#c792ea",
    cursor="#1d3a50",
    good="#7fd47f",
    warn="#f2c14e",
    bad="#ff7b72",
    air="#ff7b72",
)

LIGHT = Palette(
    name="light",
    title="Light",
    dark=False,
    text="#1c2530",
    muted="#56616e",
    background="#f7f8fa",
    surface="#ffffff",
    raised="#e6eaef",
    line="#b5bfca",
    accent="#0b62a8",
    second="#7b3fa8",
    cursor="#c3ddf2",
    good="#1d6b2a",
    warn="#855300",
    bad="#b3261e",
    air="#b3261e",
)

HIGH_CONTRAST = Palette(
    name="high-contrast",
    title="High contrast",
    dark=True,
    text="#ffffff",
    muted="#d8d8d8",
    background="#000000",
    surface="#000000",
    raised="#1a1a1a",
    line="#ffffff",
    accent="#66e0ff",
    second="#ffb3ff",
    cursor="#00264d",
    good="#66ff66",
    warn="#ffe14d",
    bad="#ff9a90",
    air="#ff9a90",
)

COLOUR_BLIND_SAFE = Palette(
    name="colour-blind-safe",
    title="Colour-blind safe",
    dark=True,
    text="#e4e6e8",
    muted="#9aa4ae",
    background="#10141a",
    surface="#151a21",
    raised="#1e2630",
    line="#3c4855",
    accent="#56b4e9",
    second="#f0e442",
    cursor="#17395c",
    good="#56b4e9",
    warn="#f0e442",
    bad="#ff9447",
    air="#ff9447",
)

# For NO_COLOR: two values only. What is bright behind text is drawn reversed, and no colour is sent at all.
MONOCHROME = Palette(
    name="monochrome",
    title="Monochrome",
    dark=True,
    text="#ffffff",
    muted="#ffffff",
    background="#000000",
    surface="#000000",
    raised="#000000",
    line="#ffffff",
    accent="#ffffff",
    second="#ffffff",
    cursor="#ffffff",
    good="#ffffff",
    warn="#ffffff",
    bad="#ffffff",
    air="#ffffff",
)

PALETTES: tuple[Palette, ...] = (DARK, LIGHT, HIGH_CONTRAST, COLOUR_BLIND_SAFE)
