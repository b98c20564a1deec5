"""The page reads the very code that the publisher draws, at any size, and refuses what is damaged."""

import base64
import random
import time

import numpy as np
import pytest

from media import timecode
from tests.browser.stand import Stand
from tests.support.chromium import OpenPage

pytestmark = pytest.mark.browser

READ = """
async ([pictures, width, height]) => {
  const { TimeCodeReader } = await import('/static/timecode.js');
  return pictures.map((text) => {
    const luma = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width, height, videoWidth: width, videoHeight: height });
    const context = canvas.getContext('2d');
    const image = context.createImageData(width, height);
    luma.forEach((level, at) => image.data.set([level, level, level, 255], at * 4));
    context.putImageData(image, 0, 0);
    return new TimeCodeReader().read(canvas);
  });
}
"""


@pytest.mark.parametrize("width", [640, 854, 1280, 1920])
async def test_what_the_publisher_draws(stand: Stand, watch_page: OpenPage, width: int) -> None:
    watch = await watch_page(stand.url)
    height = timecode.strip_size(width)[1] + 2  # the strip is all a reader looks at
    chance = random.Random(width)
    moments = [time.time(), 0.0, (timecode.MODULUS - 1) / 1000, *(chance.uniform(0, 4e9) for _ in range(20))]
    pictures, codes = [], []
    for moment in moments:
        luma = np.full((height, width), 128, np.uint8)
        timecode.draw(luma, moment)
        noise = np.random.default_rng(width).integers(-25, 26, luma.shape)
        pictures.append(np.clip(luma.astype(int) + noise, 16, 235).astype(np.uint8))
        codes.append(timecode.code_of(moment))

    damaged = pictures[0].copy()
    side = timecode.block_side(width)
    block = damaged[side : 3 * side, 22 * side : 23 * side]
    block[:] = 251 - block  # one bit the other way round
    pictures += [damaged, np.full_like(damaged, 128), np.full_like(damaged, 16)]

    encoded = [base64.b64encode(picture.tobytes()).decode() for picture in pictures]
    assert await watch.page.evaluate(READ, [encoded, width, height]) == [*codes, None, None, None]


async def test_the_age_of_a_code_survives_the_wrap(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.url)
    ages = await watch.page.evaluate(
        """async () => {
          const { age } = await import('/static/timecode.js');
          return [age(2 ** 40 - 20, 2 ** 40 + 30), age(100, 2 ** 41 + 90), age(1000, 1250.5)];
        }"""
    )
    assert ages == [50, -10, 250.5]
