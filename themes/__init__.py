"""Palettes as data: colours by meaning, for the console to draw with."""

from themes.palette import Palette, contrast
from themes.palettes import MONOCHROME, PALETTES

__all__ = ["MONOCHROME", "PALETTES", "Palette", "contrast"]
