"""Writes `broker-users.conf` and Mosquitto's `acl` from the books, by temp and rename.

The broker's supervisor polls the file's time and reloads; several writers are harmless, because each
writes what the database says and the service compares again every few seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine

from sync.central.broker_auth import mosquitto_acl, nats_users, users
from sync.central.engine import reading
from sync.central.settings import SERVICE, CentreConfig

NATS_FILE = "broker-users.conf"
MOSQUITTO_FILE = "acl"


def write_users(config: CentreConfig, engine: Engine) -> bool:
    """Bring both files up to date; whether anything changed."""
    with reading(engine) as connection:
        found = users(connection)
    nats = nats_users(config.campus, config.site, (SERVICE,), found)
    acl = mosquitto_acl(config.site, (SERVICE,))
    changed = _replace(config.broker_folder / NATS_FILE, nats)
    return _replace(config.broker_folder / MOSQUITTO_FILE, acl) or changed


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_text("utf-8") == text:
        return False
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return True
