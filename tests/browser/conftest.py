"""The fixtures of the browser tests."""

from tests.browser.stand import stand as stand
from tests.media.node.conftest import nodes as nodes
