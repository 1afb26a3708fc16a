"""The files of an enrolled canteen terminal without a centre: identity, lists, keys, configuration.

For benches and tests that start a real terminal process; a journal of any length can be put in.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from firmware.base.clock import Clock
from firmware.base.keys import KeyStore
from protocols.wire import cbor
from protocols.wire.cose import sign1
from protocols.wire.record import Kind, own_of
from sim.till_office import MASTERS, TERM, TID, Office, asn, grant
from sync.device.store import SyncStore
from terminal.ledger.recovery import open_journal

CONFIG = """\
role = "canteen"
data = "data"

[log]
level = "info"

[canteen]
mode = "fixed"
fixed_fen = 300
cooldown_s = 0

[reader]
driver = "pn532"
port = "{port}"

[sam]
driver = "soft_sam"
development = true
tid = "{tid}"
keys = "keys.json"

[console]
format = "json"
"""


def make(folder: Path, port: str, clock: Clock, office: Office | None = None) -> Path:
    """Everything a terminal process needs below `folder`, enrolled now; its configuration file."""
    pen = office or Office()
    if not pen.messages:
        pen.publish_all()
    data = folder / "data"
    (data / "identity").mkdir(parents=True)
    enrolled = {
        "site": "s1",
        "terminal": TERM,
        "partition": 0,
        "client_id": f"{TERM}-{'0' * 32}",
        "broker_host": "127.0.0.1",
        "broker_port": 8883,
        "centre_url": "https://127.0.0.1:8443",
        "centre_keys": [pen.signer.spki],
        "campus": "campus",
        "grant": sign1(grant(hw0_us=clock.wall_us()).encode(), pen.signer),
    }
    (data / "identity" / "enrol.cbor").write_bytes(cbor.dumps(enrolled))
    deliver(data, pen)
    KeyStore.create(folder / "keys.json", None, development=True).add("MPK", MASTERS.mpk)
    config = folder / "terminal.toml"
    config.write_text(CONFIG.format(port=port, tid=TID.hex()))
    return config


def deliver(data: Path, office: Office) -> None:
    """Write what the office said into sync.db, as the daemon would."""
    store = SyncStore(data / "sync.db")
    names = [name for name in office.messages if not name.startswith("list_head:")]
    store.keep({name: office.messages[name] for name in names})
    for name, parts in office.list_parts.items():
        version = int(_version(office.messages[f"list_head:{name}"]))
        store.keep_list(name, version, office.messages[f"list_head:{name}"], parts)
    store.close()


def _version(head: bytes) -> int:
    from protocols.wire.cose import open1
    from protocols.wire.messages import ListHead

    return ListHead.decode(open1(head).payload).version


def fill(data: Path, clock: Clock, count: int) -> None:
    """Give the journal `count` records of lunch: INTENT and CAPTURE in turn, not flushed singly."""

    def fast(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    granted = grant(hw0_us=clock.wall_us())
    journal = open_journal(data / "journal", granted, clock, os.urandom(8), open_file=fast)
    date, time = bytes.fromhex("20260302"), bytes.fromhex("110000")
    fields = {"means": 0, "sale": [1, "fixed", None, None, 1], "uid": b"\1\2\3\4", "type": 6}
    while journal.tip.seq < count:
        card = asn(1 + journal.tip.seq % 400)
        own = own_of(
            Kind.INTENT,
            **fields,
            purse_before=5_000,
            tid=TID,
            termseq=journal.tip.seq,
            date=date,
            time=time,
            keyver=1,
            mac1=b"1234",
            exp_mac2=b"5678",
            prev=bytes(23),
        )
        intent = journal.append(Kind.INTENT, inst=card, ctr=7, fen=300, own=own)
        done = own_of(Kind.CAPTURE, purse_after=4_700, tac=b"abcd")
        journal.append(Kind.CAPTURE, ref=intent.seq, inst=card, ctr=7, fen=300, own=done)
    journal.close()
