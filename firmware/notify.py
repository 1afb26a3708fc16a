"""sd_notify: tell the service manager that we are ready and alive (terminals.md §11)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send one state line, e.g. `READY=1`; False when nobody asked for it or listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(state.encode(), address)
    except OSError:
        return False
    return True
