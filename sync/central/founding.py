"""Founding a centre: keys, authority, certificates, configuration and empty books, once per folder.

Used by `onecard central init`, the demo and the tests. Nothing that exists is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware.base.clock import Clock, SystemClock
from firmware.base.keys import DeviceKey, KeyStore
from firmware.base.rng import Rng
from protocols.wire.topics import check_site
from sync.central.broker_users import write_users
from sync.central.ca import Authority, create_root
from sync.central.engine import open_engine
from sync.central.migrations import prepare
from sync.central.settings import FILE, SERVICE, CentreConfig, load

MASTERS = ("MPK", "MTK", "MLK", "MAMK")  # purchase, TAC, load, application maintenance
HOSTS = ("127.0.0.1", "localhost")
CONFIG = """\
# The centre of {campus}; paths are relative to this file's folder.
campus = "{campus}"
site = "{site}"
development = {development}
database = "{database}"
client_id = "{client_id}"
{passphrase}
[broker]
host = "{host}"
bind = "{bind}"
port = {broker_port}
core_port = {core_port}

[enrol]
bind = "{bind}"
port = {enrol_port}
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the centre's processes listen, and under which names they are reached."""

    hosts: Sequence[str] = HOSTS
    bind: str = "127.0.0.1"
    broker: int = 8883
    core: int = 4222
    enrol: int = 8443


def init_centre(
    folder: Path,
    campus: str,
    site: str,
    development: bool,
    rng: Rng,
    *,
    ports: Ports | None = None,
    database: str = "sqlite:///centre.db",
    passphrase_file: Path | None = None,
    clock: Clock | None = None,
) -> CentreConfig:
    """Make everything a centre needs in `folder`; its configuration.

    Raises KEYS_EXISTS in a folder that has a centre, KEYS_INSECURE without a passphrase outside
    development, WIRE_TOPIC for a bad site name.
    """
    check_site(site)
    now_us = (clock or SystemClock()).wall_us()
    where = ports or Ports()
    keys = folder / "keys"
    for made in (folder, keys, folder / "broker"):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = None if passphrase_file is None else passphrase_file.read_bytes().strip()
    store = KeyStore.create(keys / "masters.json", secret, development=development)
    for name in MASTERS:
        store.add(f"{name}.1", rng.token(16))
    _certificates(keys, campus, where.hosts, rng, now_us)
    for name in ("sync-1.key", "sync-2.key"):
        DeviceKey.create(keys / name)
    line = "" if passphrase_file is None else f'passphrase_file = "{passphrase_file.resolve()}"\n'
    (folder / FILE).write_text(
        CONFIG.format(
            campus=campus,
            site=site,
            development=str(development).lower(),
            database=database,
            client_id=f"{SERVICE}-{rng.token(16).hex()}",
            passphrase=line,
            host=where.hosts[0],
            bind=where.bind,
            broker_port=where.broker,
            core_port=where.core,
            enrol_port=where.enrol,
        )
    )
    config = load(folder / FILE)
    engine = open_engine(config.database)
    prepare(engine)
    write_users(config, engine)
    engine.dispose()
    return config


def _certificates(keys: Path, campus: str, hosts: Sequence[str], rng: Rng, now_us: int) -> None:
    """Root, broker, enrolment port, and the service's own client certificate."""
    root = DeviceKey.create(keys / "ca.key")
    pem = create_root(campus, root.private_key, rng, now_us)
    (keys / "ca.crt").write_bytes(pem)
    authority = Authority(campus, root.private_key, pem, rng)
    for name in ("broker", "enrol"):
        key = DeviceKey.create(keys / f"{name}.key").private_key.public_key()
        (keys / f"{name}.crt").write_bytes(authority.server(name, hosts, key, now_us))
    key = DeviceKey.create(keys / f"{SERVICE}.key").private_key.public_key()
    (keys / f"{SERVICE}.crt").write_bytes(authority.service(SERVICE, key, now_us))
