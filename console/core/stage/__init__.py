"""The embedded stage: a whole deployment on this machine, kept alive by one supervisor.

`up`, `status` and `down` are all a console needs; they work the same from a command, from the screens and
from a test. Progress is told as plain lines through `report`. Failures are `StageError`s, whose text is fit
to be shown and whose `details` hold the last lines of the log that explains them.
"""

from console.core.stage.finish import down
from console.core.stage.look import status
from console.core.stage.model import (
    Place,
    PublisherSpec,
    PublisherStatus,
    Report,
    StageOptions,
    StageStatus,
    locate,
)
from console.core.stage.publishing import (
    list_publishers,
    order_publisher,
    start_publisher,
    stop_publisher,
    wait_live,
)
from console.core.stage.start import HeldByBudget, keep_supervised, up

__all__ = [
    "HeldByBudget",
    "Place",
    "PublisherSpec",
    "PublisherStatus",
    "Report",
    "StageOptions",
    "StageStatus",
    "down",
    "keep_supervised",
    "list_publishers",
    "locate",
    "order_publisher",
    "start_publisher",
    "status",
    "stop_publisher",
    "up",
    "wait_live",
]
