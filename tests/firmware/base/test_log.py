"""Logs show events and facts, and no secret whatever way it comes in."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from firmware.base import log
from protocols.errors import OnecardError

CARD = bytes.fromhex("00011998081700000030")
KEY = bytes.fromhex("00112233445566778899aabbccddeeff")


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.setup(log.TRAFFIC, stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_event_and_facts(sink: io.StringIO) -> None:
    """One line: time, level, logger, event, key=value; integers as they are."""
    log.event(
        logging.getLogger("till"), logging.INFO, "sale_paid", fen=1250, at_us=1803873600000000
    )
    line = sink.getvalue()
    assert line.endswith("INFO till sale_paid fen=1250 at_us=1803873600000000\n")


def test_no_secret_comes_through(sink: io.StringIO) -> None:
    """Card numbers keep four digits; keys, PINs and APDU bodies nothing; free text is scrubbed."""
    logger = logging.getLogger("x")
    log.event(logger, logging.INFO, "card", asn=CARD, uid=b"\xde\xad\xbe\xef", pin="123456")
    log.event(logger, logging.INFO, "keys", mpk=KEY, reason=f"key {KEY.hex()} of {CARD.hex()}")
    verify = bytes.fromhex("0020000003123456")
    log.event(logger, log.TRAFFIC, "apdu", apdu=verify, answer=CARD + b"\x90\x00")
    log.failure(logger, "lost", OnecardError(asn=CARD, key=KEY))
    logger.info("card 00011998081700000030 came")
    try:
        raise ValueError(KEY.hex())
    except ValueError:
        logger.exception("trace")
    shown = sink.getvalue()
    for secret in (CARD.hex(), CARD.hex()[:12], KEY.hex(), "123456", "deadbeef"):
        assert secret not in shown
    assert "asn=…0030" in shown
    assert "apdu=00200000+4 answer=10+9000" in shown


def test_a_formatter_without_masking_would_leak(sink: io.StringIO) -> None:
    """Negative control: the same record through a plain formatter shows the card number."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "card %s came", (CARD.hex(),), None)
    assert CARD.hex() in logging.Formatter().format(record)
    assert CARD.hex() not in log.LineFormatter().format(record)


def test_json_lines(sink: io.StringIO) -> None:
    """As JSON each line is one object with the same facts."""
    log.setup(logging.INFO, sink, as_json=True)
    log.event(logging.getLogger("till"), logging.INFO, "sale_paid", fen=1250, asn=CARD)
    line = json.loads(sink.getvalue())
    assert (line["event"], line["fen"], line["asn"]) == ("sale_paid", 1250, "…0030")


def test_level_filters(sink: io.StringIO) -> None:
    """TRAFFIC lies below DEBUG and is off unless asked for."""
    log.setup(logging.DEBUG, sink)
    log.event(logging.getLogger("x"), log.TRAFFIC, "apdu", apdu=b"\x00\xa4\x04\x00")
    assert sink.getvalue() == ""
