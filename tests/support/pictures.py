"""Every picture that a watch page shows, with the time code drawn into it: whether its viewer saw a gap."""

from dataclasses import dataclass
from itertools import pairwise

from playwright.async_api import Page

RECORD = """
async () => {
  const { decode } = await import('/static/timecode.js');
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: 48, height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true, alpha: false });
  const codeOf = (video) => {
    const block = Math.floor(video.videoWidth / 64 / 2) * 2;
    const levels = [];
    context.drawImage(video, 2 * block, 1.5 * block, 48 * block, block, 0, 0, 48, 1);
    const { data } = context.getImageData(0, 0, 48, 1);
    for (let at = 0; at < 48; at += 1) levels.push(data[at * 4 + 1]);
    return decode(levels);
  };
  window.pictures = [];
  for (const video of document.querySelectorAll('#screen video')) {
    const shown = (now) => {
      video.requestVideoFrameCallback(shown);
      if (video.classList.contains('front')) window.pictures.push([now, codeOf(video)]);
    };
    video.requestVideoFrameCallback(shown);
  }
}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of the pictures on the screen of a page. Milliseconds."""

    pictures: int
    read: int  # of those, with a code that could be read
    longest_ms: float  # between two pictures
    longest_code_ms: float  # between the moments at which two pictures in a row were captured
    back_ms: float  # the furthest step back in time, from one picture to the next; 0: none


async def record(page: Page) -> None:
    """From now on."""
    await page.evaluate(RECORD)


async def seen(page: Page) -> Seen:
    shown: list[tuple[float, float | None]] = await page.evaluate("window.pictures")
    at = [moment for moment, _ in shown]
    codes = [code for _, code in shown if code is not None]
    steps = [later - earlier for earlier, later in pairwise(codes)]
    return Seen(
        pictures=len(shown),
        read=len(codes),
        longest_ms=max((later - earlier for earlier, later in pairwise(at)), default=0.0),
        longest_code_ms=max(steps, default=0.0),
        back_ms=-min([0.0, *steps]),
    )
