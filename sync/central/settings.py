"""The centre's configuration file and what lies beside it (`onecard central init` writes both).

Every path is relative to the file's folder. Keys are files of mode 0600; the store of master keys
is sealed under a passphrase except in development.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firmware.base.config import Section
from firmware.base.keys import DeviceKey, KeyStore
from protocols.wire.cose import P256Signer, kid_of
from sync.central.acts import Desk, Settings

SERVICE = "central-w1"
FILE = "centre.toml"


@dataclass(frozen=True, slots=True)
class CentreConfig:
    """What `onecard central` and its tools need to know."""

    folder: Path
    campus: str
    site: str
    development: bool
    database: str
    broker_host: str
    broker_bind: str
    broker_port: int
    broker_core_port: int
    enrol_bind: str
    enrol_port: int
    client_id: str
    passphrase_file: Path | None
    settings: Settings

    @property
    def keys(self) -> Path:
        """Folder of keys and certificates."""
        return self.folder / "keys"

    @property
    def broker_folder(self) -> Path:
        """Folder of the embedded broker; holds `broker-users.conf`."""
        return self.folder / "broker"

    @property
    def ca_pem(self) -> Path:
        """The campus root."""
        return self.keys / "ca.crt"

    def desk(self) -> Desk:
        """Who we are, with the signing key read from its file. Raises KEYS_*."""
        current = P256Signer(DeviceKey.load(self.keys / "sync-1.key").private_key)
        following = DeviceKey.load(self.keys / "sync-2.key")
        assert kid_of(current.spki) != following.kid, "two different sync keys"
        return Desk(self.campus, self.site, current, (current.spki, following.spki))

    def masters(self) -> KeyStore:
        """The store of master keys. Raises KEYS_*."""
        return KeyStore.open(
            self.keys / "masters.json", self.passphrase(), development=self.development
        )

    def passphrase(self) -> bytes | None:
        """What the store is sealed under; None in development."""
        return None if self.passphrase_file is None else self.passphrase_file.read_bytes().strip()


def load(path: Path) -> CentreConfig:
    """Read and check the file. Raises CONFIG naming every fault."""
    root = Section.load(path)
    broker, enrol = root.section("broker"), root.section("enrol")
    window, office = root.section("window"), root.section("office")
    database = root.text("database", "sqlite:///centre.db", "sqlite:///PATH or postgresql://…")
    secret = root.text("passphrase_file", "", "file with the passphrase of the key store")
    found = CentreConfig(
        folder=path.resolve().parent,
        campus=root.text("campus", None, "name in certificates", len_max=40),
        site=root.text("site", None, "site, [a-z][a-z0-9]{1,7}", len_max=8),
        development=root.flag("development", False, "allow an unsealed key store"),
        database=_placed(database, path.resolve().parent),
        broker_host=broker.text("host", "127.0.0.1", "where terminals find the broker"),
        broker_bind=broker.text("bind", "127.0.0.1", "address the embedded broker listens on"),
        broker_port=broker.integer("port", 8883, 1, 65_535, "MQTT over TLS"),
        broker_core_port=broker.integer("core_port", 4222, 1, 65_535, "NATS itself, loopback"),
        enrol_bind=enrol.text("bind", "127.0.0.1", "address of /enrol and /status"),
        enrol_port=enrol.integer("port", 8443, 1, 65_535, "its port"),
        client_id=root.text("client_id", None, "secret MQTT client id of this process"),
        passphrase_file=path.resolve().parent / secret if secret else None,
        settings=Settings(
            credit=window.integer("credit", 4, 1, 16, "segments a terminal may have unacked"),
            flush_ms=window.integer("flush_ms", 2_000, 100, 30_000, "oldest unsent record"),
            spread_s=window.integer("spread_s", 30, 0, 3_600, "first connects spread over"),
            two_person_fen=office.integer("two_person_fen", 10_000, 0, 10**9, "above: two"),
            bad_tac_day_max=office.integer("bad_tac_day_max", 3, 0, 1_000, "then held"),
            doubt_days=office.integer("doubt_days", 30, 1, 365, "then AGED"),
        ),
    )
    root.close()
    return found


def _placed(url: str, folder: Path) -> str:
    """A relative SQLite path counts from the file's folder."""
    lead = "sqlite:///"
    if url.startswith(lead) and not url.startswith("sqlite:////"):
        return f"{lead}{folder / url.removeprefix(lead)}"
    return url
