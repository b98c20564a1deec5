"""A five by seven dot alphabet: enough to write a clock and a caption into a test picture."""

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 5, 7
ADVANCE = WIDTH + 1

_DOTS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ...#. ..#.. .#... #####",
    "3": ".###. #...# ....# ..##. ....# #...# .###.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": ".###. #.... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. ..#.. .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ....# .###.",
    ":": "..... ..#.. ..#.. ..... ..#.. ..#.. .....",
    ".": "..... ..... ..... ..... ..... .##.. .##..",
    " ": "..... ..... ..... ..... ..... ..... .....",
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "C": ".###. #...# #.... #.... #.... #...# .###.",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "F": "##### #.... #.... ####. #.... #.... #....",
    "H": "#...# #...# #...# ##### #...# #...# #...#",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "M": "#...# ##.## #.#.# #.#.# #...# #...# #...#",
    "O": ".###. #...# #...# #...# #...# #...# .###.",
    "P": "####. #...# #...# ####. #.... #.... #....",
    "R": "####. #...# #...# ####. #.#.. #..#. #...#",
    "S": ".#### #.... #.... .###. ....# ....# ####.",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "U": "#...# #...# #...# #...# #...# #...# .###.",
    "W": "#...# #...# #...# #.#.# #.#.# ##.## #...#",
    "X": "#...# #...# .#.#. ..#.. .#.#. #...# #...#",
}


def _dots(character: str) -> npt.NDArray[np.bool_]:
    rows = [[dot == "#" for dot in row] + [False] for row in _DOTS[character].split()]
    return np.array(rows, dtype=np.bool_)


_CELLS = {character: _dots(character) for character in _DOTS}


class Writer:
    """Writes text of one size into luma planes; glyphs are scaled once."""

    def __init__(self, scale: int, ink: int, paper: int) -> None:
        self.cell_width = ADVANCE * scale
        self.cell_height = HEIGHT * scale
        self._cells = {
            character: np.where(np.kron(cell, np.ones((scale, scale), np.bool_)), ink, paper).astype(np.uint8)
            for character, cell in _CELLS.items()
        }

    def width(self, text: str) -> int:
        return len(text) * self.cell_width

    def write(self, luma: npt.NDArray[np.uint8], x: int, y: int, text: str) -> None:
        """Put the text's top left corner at (x, y); what does not fit the picture is left out."""
        for character in text:
            if x + self.cell_width > luma.shape[1] or y + self.cell_height > luma.shape[0]:
                return
            luma[y : y + self.cell_height, x : x + self.cell_width] = self._cells[character]
            x += self.cell_width
