"""The `onecard` command. `terminal` and `sync` start before Typer is imported: memory, start time.

Exit codes: 0 done, 1 a check failed or found a problem, 2 bad input or usage, 3 not reachable.
"""

from __future__ import annotations

import sys

from protocols.errors import OnecardError
from protocols.texts import TEXTS


def main() -> int:
    """Entry point: returns the exit code."""
    if not __debug__:  # `python -O` would remove the assertions that guard money
        sys.stderr.write("onecard: refuses to run with -O or PYTHONOPTIMIZE\n")
        return 2
    argv = sys.argv[1:]
    try:
        if argv[:1] == ["terminal"]:
            from terminal.roles import main as terminal_main

            return terminal_main(argv[1:])
        if argv[:1] == ["sync"]:
            from sync.device.service import main as sync_main

            return sync_main(argv[1:])
        from sync.commands import main as typer_main

        return typer_main(argv)
    except OnecardError as exc:
        return fail(exc)


def fail(exc: OnecardError) -> int:
    """Say a typed error on standard error: code, facts, and what a person can do; exit 2."""
    zh, en = TEXTS.get(exc.code, ("", ""))
    sys.stderr.write(f"{exc}\n{zh} / {en}\n")
    return 2
