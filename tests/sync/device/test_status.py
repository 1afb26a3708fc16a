"""The signed answer of /status: believed only signed, for us, and for this very question."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.base.clock import SystemClock
from protocols.wire import cbor
from protocols.wire.cose import KeyRing, P256Signer, sign1
from sync.device.status import StatusCall

DEVICE = P256Signer(ec.derive_private_key(1, ec.SECP256R1()))
CENTRE = P256Signer(ec.derive_private_key(2, ec.SECP256R1()))


@pytest.fixture
def call(tmp_path: Path) -> StatusCall:
    ring = KeyRing([CENTRE.spki])
    return StatusCall("https://localhost:1", tmp_path, DEVICE, ring, "T0001", SystemClock())


def _told(**changes: object) -> bytes:
    told = {"term": "T0001", "t1": 7, "state": "revoked", "epoch": 1, "reason": "SYNC_FENCED"}
    return cbor.dumps({**told, **changes})


def test_reason_or_state(call: StatusCall) -> None:
    """A reason is shown as its code; without one the state."""
    assert call.judge(sign1(_told(), CENTRE), 7) == "SYNC_FENCED"
    assert call.judge(sign1(_told(state="enrolled", reason=None), CENTRE), 7) == "ENROLLED"


@pytest.mark.parametrize("changes", [{"term": "T0002"}, {"t1": 6}, {"state": 5, "reason": None}])
def test_foreign_or_replayed_is_nothing(call: StatusCall, changes: dict[str, object]) -> None:
    """An answer for another terminal or another question says nothing."""
    assert call.judge(sign1(_told(**changes), CENTRE), 7) is None


def test_unsigned_is_nothing(call: StatusCall) -> None:
    """Neither bytes nor a foreign signature count; an unreachable centre is None too."""
    assert call.judge(_told(), 7) is None
    assert call.judge(sign1(_told(), DEVICE), 7) is None
    assert call.ask() is None
