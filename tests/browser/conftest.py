"""The fixtures of the browser tests."""

from tests.browser.stand import stand as stand
