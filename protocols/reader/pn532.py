"""PN532 frames, commands and answers: the reader chip's wire, without a serial port.

    normal    00 00 FF LEN LCS TFI ... DCS 00             LEN + LCS = 0 mod 256
    extended  00 00 FF FF FF LENhi LENlo LCS TFI ... DCS 00
    ACK       00 00 FF 00 FF 00      NACK 00 00 FF FF 00 00
    error     00 00 FF 01 FF 7F 81 00

TFI is D4 towards the chip, D5 from it; TFI.. + DCS = 0 mod 256. Spec: card.md §8.2,
PN532 user manual UM0701-02 §6.2 and §7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from protocols.card.layout import cut
from protocols.errors import Pn532AnswerError, Pn532FrameError

CLAUSE = "UM0701-02 §6.2.1"
TO_CHIP = 0xD4
FROM_CHIP = 0xD5
ERROR_TFI = 0x7F
BODY_LEN_MAX = 263  # with TFI and code 265, the chip's own limit
WAKE_UP = bytes.fromhex("5555") + bytes(14)
_START = b"\x00\xff"

SAM_CONFIGURATION = 0x14
GET_FIRMWARE_VERSION = 0x02
SET_BAUD = 0x10
RF_CONFIGURATION = 0x32
LIST_PASSIVE_TARGET = 0x4A
DATA_EXCHANGE = 0x40
COMMUNICATE_THRU = 0x42
RELEASE = 0x52
BAUD_CODES = {9600: 0, 19200: 1, 38400: 2, 57600: 3, 115200: 4, 230400: 5, 460800: 6, 921600: 7}

STATUS_OK = 0x00
STATUS_RF_TIMEOUT = 0x01


@dataclass(frozen=True, slots=True)
class Frame:
    """One information frame; an answer's code is the command's plus one."""

    tfi: int
    code: int
    body: bytes = b""

    def __post_init__(self) -> None:
        assert self.tfi in (TO_CHIP, FROM_CHIP), self.tfi
        assert 0 <= self.code <= 0xFF, self.code
        assert len(self.body) <= BODY_LEN_MAX, len(self.body)

    def encode(self) -> bytes:
        """The frame's bytes; extended only when a normal frame cannot hold it."""
        payload = bytes((self.tfi, self.code)) + self.body
        return _wrap(payload, extended=len(payload) > 0xFF)


@dataclass(frozen=True, slots=True)
class Ack:
    """The other side has received the frame."""

    def encode(self) -> bytes:
        """Six bytes."""
        return bytes.fromhex("0000FF00FF00")


@dataclass(frozen=True, slots=True)
class Nack:
    """The other side wants the last frame again."""

    def encode(self) -> bytes:
        """Six bytes."""
        return bytes.fromhex("0000FFFF0000")


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """The chip did not understand the command at application level."""

    def encode(self) -> bytes:
        """Eight bytes."""
        return _wrap(bytes((ERROR_TFI,)), extended=False)


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that began and is not one: `field` is length, lcs, dcs or tfi."""

    field: str


Event = Frame | Ack | Nack | ErrorFrame | BadFrame


def _checksum(payload: bytes) -> int:
    return -sum(payload) & 0xFF


def _wrap(payload: bytes, *, extended: bool) -> bytes:
    size = len(payload).to_bytes(2 if extended else 1, "big")
    mark = b"\xff\xff" if extended else b""
    header = b"\x00" + _START + mark + size + bytes((_checksum(size),))
    return header + payload + bytes((_checksum(payload), 0x00))


def _open(payload: bytes) -> Frame | ErrorFrame | BadFrame:
    if payload == bytes((ERROR_TFI,)):
        return ErrorFrame()
    if len(payload) < 2 or payload[0] not in (TO_CHIP, FROM_CHIP):
        return BadFrame("tfi")
    return Frame(payload[0], payload[1], payload[2:])


class Splitter:
    """Cuts a byte stream into frames, whatever pieces it comes in.

    Skips everything up to a start code 00 FF. After a bad length it looks for the next start
    code at once; after a bad checksum it skips the whole frame, so that bytes inside a payload
    are never read as a frame. Holds less than one frame between calls.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> list[Event]:
        """Take the next bytes; the frames that are complete now, in order."""
        self._held += piece
        events: list[Event] = []
        while self._align():
            event, used = _front(bytes(self._held[: 8 + BODY_LEN_MAX + 2]))
            if used == 0:
                break
            del self._held[:used]
            if event is not None:
                events.append(event)
        return events

    def _align(self) -> bool:
        """Drop what cannot begin a frame; True when the start code stands in front."""
        at = self._held.find(_START)
        if at < 0:
            keep = 1 if self._held[-1:] == b"\x00" else 0
            del self._held[: len(self._held) - keep]
            return False
        del self._held[:at]
        return True


def _front(held: bytes) -> tuple[Event | None, int]:
    """The event at the start code in front and the bytes it used; 0 bytes = more are needed."""
    head = held[2:7]
    if head[:2] == b"\x00\xff":
        return Ack(), 4
    if head[:2] == b"\xff\x00":
        return Nack(), 4
    extended = head[:2] == b"\xff\xff"
    size_at, size_len = (4, 2) if extended else (2, 1)
    begin = size_at + size_len + 1
    if len(held) < begin:
        return None, 0
    size = held[size_at : begin - 1]
    if _checksum(size) != held[begin - 1]:
        return BadFrame("lcs"), len(_START)
    length = int.from_bytes(size, "big")
    if not 1 <= length <= BODY_LEN_MAX + 2:
        return BadFrame("length"), len(_START)
    end = begin + length
    if len(held) < end + 1:
        return None, 0
    payload = held[begin:end]
    return (BadFrame("dcs") if _checksum(payload) != held[end] else _open(payload)), end + 1


def decode_frame(raw: bytes) -> Frame | Ack | Nack | ErrorFrame:
    """Exactly one frame with preamble 00 and postamble 00; raises Pn532FrameError."""
    start = raw.find(_START)
    if start != 1 or raw[0] != 0:
        raise Pn532FrameError(field="preamble", offset=0, clause=CLAUSE)
    event, used = _front(raw[1:])
    if event is None:
        raise Pn532FrameError(field="cut", offset=len(raw), clause=CLAUSE)
    if isinstance(event, BadFrame):
        raise Pn532FrameError(field=event.field, offset=1 + used, clause=CLAUSE)
    if raw[1 + used : 2 + used] != b"\x00":
        raise Pn532FrameError(field="postamble", offset=1 + used, clause=CLAUSE)
    if len(raw) > 2 + used:
        raise Pn532FrameError(field="trailing", offset=2 + used, clause=CLAUSE)
    return event


def ask(code: int, body: bytes = b"") -> Frame:
    """A command frame to the chip."""
    return Frame(TO_CHIP, code, body)


def sam_configuration(timeout_50ms: int = 0) -> Frame:
    """14: normal mode, no virtual card, no P70 interrupt."""
    return ask(SAM_CONFIGURATION, bytes((0x01, timeout_50ms, 0x00)))


def get_firmware_version() -> Frame:
    """02."""
    return ask(GET_FIRMWARE_VERSION)


def set_baud(baud: int) -> Frame:
    """10; the chip switches after our ACK of its answer."""
    assert baud in BAUD_CODES, baud
    return ask(SET_BAUD, bytes((BAUD_CODES[baud],)))


def rf_field(*, on: bool) -> Frame:
    """32 item 1: RF field on or off, no automatic field detection."""
    return ask(RF_CONFIGURATION, bytes((0x01, 0x01 if on else 0x00)))


def rf_retries(passive: int, *, atr: int = 0xFF, psl: int = 0x01) -> Frame:
    """32 item 5: retries; `passive` activations after the first, FF would never end."""
    assert 0 <= passive < 0xFF, passive
    return ask(RF_CONFIGURATION, bytes((0x05, atr, psl, passive)))


def list_passive_target(count: int = 1) -> Frame:
    """4A: find up to `count` (1, 2) type A targets at 106 kbit/s; the chip does RATS."""
    assert count in (1, 2), count
    return ask(LIST_PASSIVE_TARGET, bytes((count, 0x00)))


def data_exchange(apdu: bytes, target: int = 1) -> Frame:
    """40: one APDU to the card; the chip does the blocks."""
    return ask(DATA_EXCHANGE, bytes((target,)) + apdu)


def communicate_thru(raw: bytes) -> Frame:
    """42: raw bytes to the card, no target selection and no blocks by the chip."""
    return ask(COMMUNICATE_THRU, raw)


def release(target: int = 0) -> Frame:
    """52: let the target go; 0 means all."""
    return ask(RELEASE, bytes((target,)))


@dataclass(frozen=True, slots=True)
class Target:
    """A type A card in the field; `ats` without its length byte, empty when it has no ATS."""

    number: int
    sens_res: bytes
    sel_res: int
    uid: bytes
    ats: bytes

    @property
    def speaks_apdu(self) -> bool:
        """True when SEL_RES announces ISO 14443-4."""
        return bool(self.sel_res & 0x20)

    def encode(self) -> bytes:
        """As it stands in the answer of 4A."""
        head = bytes((self.number,)) + self.sens_res + bytes((self.sel_res, len(self.uid)))
        tail = bytes((len(self.ats) + 1,)) + self.ats if self.speaks_apdu else b""
        return head + self.uid + tail


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """Answer of 02: chip (32 = PN532), version, revision, supported technologies."""

    ic: int
    version: int
    revision: int
    support: int

    def encode(self) -> bytes:
        """Four bytes."""
        return bytes((self.ic, self.version, self.revision, self.support))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises Pn532AnswerError."""
        layout = (("ic", 1), ("version", 1), ("revision", 1), ("support", 1))
        return cls(*(part[0] for part in cut(raw, layout, Pn532AnswerError, "UM0701-02 §7.2.2")))


@dataclass(frozen=True, slots=True)
class ExchangeAnswer:
    """Answer of 40 and 42: status (00 ok, 01 RF time-out = card gone) and the card's bytes."""

    status: int
    body: bytes

    @property
    def error(self) -> int:
        """The error code without the flags for NAD and more information."""
        return self.status & 0x3F

    @property
    def more(self) -> bool:
        """True when the card has more to send (chaining the chip left to us)."""
        return bool(self.status & 0x40)

    def encode(self) -> bytes:
        """Status byte and body."""
        return bytes((self.status,)) + self.body

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises Pn532AnswerError on an empty body."""
        if not raw:
            raise Pn532AnswerError(field="status", offset=0, clause="UM0701-02 §7.3.8")
        return cls(raw[0], raw[1:])


def expect(frame: Frame, code: int) -> bytes:
    """The body of the chip's answer to command `code`; raises Pn532AnswerError otherwise."""
    if frame.tfi != FROM_CHIP:
        raise Pn532AnswerError(field="tfi", offset=0, clause=CLAUSE, got=frame.tfi)
    if frame.code != code + 1:
        raise Pn532AnswerError(field="code", offset=1, clause=CLAUSE, got=frame.code)
    return frame.body


def encode_targets(targets: Sequence[Target]) -> bytes:
    """Body of the answer of 4A."""
    return bytes((len(targets),)) + b"".join(target.encode() for target in targets)


def decode_targets(raw: bytes) -> tuple[Target, ...]:
    """Body of the answer of 4A for type A at 106 kbit/s; raises Pn532AnswerError."""
    if not raw or raw[0] > 2:
        raise _target_error("count", 0)
    targets: list[Target] = []
    offset = 1
    for _ in range(raw[0]):
        target, offset = _target(raw, offset)
        targets.append(target)
    if offset != len(raw):
        raise _target_error("trailing", offset)
    return tuple(targets)


def _target_error(field: str, offset: int) -> Pn532AnswerError:
    return Pn532AnswerError(field=field, offset=offset, clause="UM0701-02 §7.3.5")


def _target(raw: bytes, offset: int) -> tuple[Target, int]:
    head = raw[offset : offset + 5]
    if len(head) < 5:
        raise _target_error("target", len(raw))
    uid_end = offset + 5 + head[4]
    uid = raw[offset + 5 : uid_end]
    if len(uid) != head[4]:
        raise _target_error("uid", offset + 5)
    if not head[3] & 0x20:
        return Target(head[0], head[1:3], head[3], uid, b""), uid_end
    ats_len = raw[uid_end] if uid_end < len(raw) else 0
    ats = raw[uid_end + 1 : uid_end + ats_len]
    if ats_len == 0 or len(ats) != ats_len - 1:
        raise _target_error("ats", uid_end)
    return Target(head[0], head[1:3], head[3], uid, ats), uid_end + ats_len
