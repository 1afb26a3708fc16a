"""MUTANT: a terminal that forgets what the broker has confirmed, instead of what the centre has.

Otherwise as eager.py. The test of the untrusted broker must find that this loses records.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from eager import eager, main

from protocols.wire import cbor
from terminal.inbox import InboxFile
from terminal.ledger.store import Journal


def forgettable(self: Any, newer: Any, keep_days: int) -> bool:
    """Whether the volume before `newer` may go, by the broker's word alone."""
    inbox = InboxFile(self.folder.parent / "sync.db")
    raw = inbox.kept("puback")
    inbox.close()
    epoch, last = (0, 0) if raw is None else cbor.loads(raw)
    return bool(epoch == self.tip.epoch and newer.first_seq - 1 <= last)


if __name__ == "__main__":
    eager()
    Journal.forgettable = forgettable  # type: ignore[method-assign]
    sys.exit(main())
