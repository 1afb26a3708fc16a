"""The product with its hourly housekeeping done after half a second of rest: `python eager.py ...`.

MARK and pruning are otherwise the product's own, so a test need not wait an hour for them. The
daemon also notes how far the broker has confirmed, which the product does not even store.
"""

import sys
from typing import Any

from protocols.wire import cbor
from sync.cli import main
from sync.device.daemon import Daemon
from terminal.canteen import till

MARK_EVERY_US = 500_000


def note_pubacks() -> None:
    """Keep [epoch, seq] of the last record in a segment that the broker took."""
    plain = Daemon.puback

    def puback(self: Any, number: int) -> None:
        last = self._segments.get(number)
        plain(self, number)
        if last is not None:
            self._store.keep({"puback": cbor.dumps([self._view.tip().epoch, last])})

    Daemon.puback = puback  # type: ignore[method-assign]


def eager() -> None:
    """Change this process."""
    till.MARK_EVERY_US = MARK_EVERY_US
    note_pubacks()


if __name__ == "__main__":
    eager()
    sys.exit(main())
