"""Any bytes of the product as one JSON-ready object, for people and for `onecard decode`.

Signatures are shown, not judged: there is no key here. Bytes become hex, names replace numbers
where a table has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from protocols.bus import cjt188, dlt645, modbus
from protocols.card.apdu import Command, Response, describe
from protocols.card.files import CardInfo, InfoLayout, PurseRecord, parse_fci
from protocols.card.purse import DebitAnswer, PurchaseInit
from protocols.errors import DecodeKindError
from protocols.reader.pn532 import Frame, decode_frame
from protocols.wire import cbor, chain
from protocols.wire.cose import open1
from protocols.wire.lists import ASN_BYTES, decode_set
from protocols.wire.messages import (
    BODY_DEPTH_MAX,
    Hello,
    ListHead,
    Message,
    Request,
    decode_down,
)
from protocols.wire.record import OWN, Kind, Record
from protocols.wire.segment import Segment

Shown = dict[str, Any]
_COSE_TAG = b"\xd2"
_INFO_LEN_PBOC = 30


def decode(kind: str, raw: bytes) -> Shown:
    """The value of `raw` read as `kind`, one of KINDS.

    Raises DECODE_KIND for another kind and the typed error of the kind's own codec.
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise DecodeKindError(field="kind", got=kind[:40], allowed=" ".join(KINDS))
    return {"kind": kind, **reader(raw)}


def shown(value: object) -> Any:
    """A value as JSON knows it: bytes as hex, enums by value, dataclasses as objects."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {spec.name: shown(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, Mapping):
        return {str(shown(key)): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def _fields(value: object) -> Shown:
    found: Shown = shown(value)
    return found


def _apdu(raw: bytes) -> Shown:
    return _fields(Command.decode(raw))


def _response(raw: bytes) -> Shown:
    answer = Response.decode(raw)
    return {"body": answer.body.hex(), "sw": f"{answer.sw:04x}", "means": describe(answer.sw)}


def _purse_record(raw: bytes) -> Shown:
    record = PurseRecord.decode(raw)
    counter = "offline" if record.offline else "online" if record.online else None
    return {**_fields(record), "counter": counter}


def _card_info(raw: bytes) -> Shown:
    """30 bytes are the PBOC layout, anything else is read as MOHURD."""
    layout = InfoLayout.PBOC if len(raw) <= _INFO_LEN_PBOC else InfoLayout.MOHURD
    info = CardInfo.decode(raw, layout)
    return {**_fields(info), "enabled": info.enabled}


def _fci(raw: bytes) -> Shown:
    fci = parse_fci(raw)
    info = None if fci.info_raw is None else _card_info(fci.info_raw)
    return {**_fields(fci), "info": info}


def _pn532(raw: bytes) -> Shown:
    frame = decode_frame(raw)
    name = type(frame).__name__
    if not isinstance(frame, Frame):
        return {"frame": name}
    return {"frame": name, **_fields(frame)}


def _record(raw: bytes) -> Shown:
    record = Record.decode(raw)
    found = _fields(record)
    found["record_kind"] = found.pop("kind")
    if not record.known:
        return found
    kind = Kind(record.kind)
    names = [spec.name for spec in OWN[kind]]
    values = dict(zip(names, found["own"], strict=False))
    return {**found, "record_kind": kind.name, "own": values, "further": found["own"][len(names) :]}


def _peeled(raw: bytes) -> tuple[bytes, Shown]:
    """The payload and what the envelope says, if there is an envelope."""
    if raw[:1] != _COSE_TAG:
        return raw, {"signed": False}
    signed = open1(raw)
    envelope = {"signed": True, "kid": signed.kid.hex(), "signature": signed.signature.hex()}
    return signed.payload, envelope


def _segment(raw: bytes) -> Shown:
    payload, envelope = _peeled(raw)
    segment = Segment.decode(payload)
    found = _fields(segment)
    found["records"] = [_record(body) for body in segment.bodies]
    del found["bodies"]
    hashes = chain.chain(segment.prev, segment.bodies)
    return {**envelope, **found, "chain_ok": hashes[-1] == segment.tip}


def _message(raw: bytes) -> Shown:
    payload, envelope = _peeled(raw)
    items = cbor.loads(payload, BODY_DEPTH_MAX)
    second = items[1] if isinstance(items, list) and len(items) > 1 else None
    message: Message
    if isinstance(second, str):
        message = Hello.decode(payload)
    elif second == Request._NUMBER:
        message = Request.decode(payload)
    else:
        message = decode_down(payload)
    return {**envelope, "message": type(message).__name__, "fields": shown(message)}


def _list_head(raw: bytes) -> Shown:
    payload, envelope = _peeled(raw)
    return {**envelope, **_fields(ListHead.decode(payload))}


def _cards_list(raw: bytes) -> Shown:
    asns = sorted(decode_set(raw))
    return {"count": len(asns), "asns": [asn.to_bytes(ASN_BYTES, "big").hex() for asn in asns]}


_READERS: dict[str, Callable[[bytes], Shown]] = {
    "apdu": _apdu,
    "response": _response,
    "purse-record": _purse_record,
    "card-info": _card_info,
    "fci": _fci,
    "init-purchase": lambda raw: _fields(PurchaseInit.decode(raw)),
    "debit-answer": lambda raw: _fields(DebitAnswer.decode(raw)),
    "pn532": _pn532,
    "record": _record,
    "segment": _segment,
    "message": _message,
    "list-head": _list_head,
    "cards-list": _cards_list,
    "modbus": lambda raw: _fields(modbus.Frame.decode(raw)),
    "cjt188": lambda raw: _fields(cjt188.Frame.decode(raw)),
    "dlt645": lambda raw: _fields(dlt645.Frame.decode(raw)),
}
KINDS: tuple[str, ...] = tuple(_READERS)
