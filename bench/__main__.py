"""`./run bench NAME [ARGS]`: each benchmark is a module with `main(argv) -> int`."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = {
    "journal": "durable event through the public API against one fdatasync",
    "tap": "host time per tap beyond the wire, PN532 on a pty and PC/SC",
    "terminal": "start to ready, memory and idle load of a terminal process",
}


def main(argv: list[str]) -> int:
    """Run one benchmark by name; 2 for an unknown one."""
    if not argv or argv[0] not in NAMES:
        for name, what in NAMES.items():
            sys.stderr.write(f"./run bench {name:10} {what}\n")
        return 0 if argv[:1] == ["--help"] else 2
    module = import_module(f"bench.{argv[0]}")
    code = module.main(argv[1:])
    assert isinstance(code, int), argv
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
