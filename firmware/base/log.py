"""One log format and one masking point for the product.

Call `event(logger, logging.INFO, "sale_paid", fen=1250)`: the event is a fixed word, facts are
key=value. Card numbers keep four digits, keys and PINs nothing, APDUs only header and length:
a log is copied around more freely than a journal (style.md §7).
"""

from __future__ import annotations

import json
import logging
import re
from typing import TextIO

from protocols.errors import Fact, OnecardError

TRAFFIC = 5
SECRET_WORDS = frozenset(
    [
        "pin",
        "key",
        "mk",
        "mpk",
        "mlk",
        "mtk",
        "mamk",
        "dpk",
        "dlk",
        "dtk",
        "damk",
        "ses",
        "session_key",
        "passphrase",
        "password",
        "secret",
        "claim",
        "token",
        "reservation",
        "paycode",
        "id_number",
    ]
)
CARD_WORDS = frozenset(["asn", "asn8", "asn_raw", "card", "card_no", "uid", "phone", "plate"])
WIRE_WORDS = frozenset(["apdu", "answer"])

# text that slipped past the names: card numbers (16-20 digits), 8-, 16- and 24-byte keys
_DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9]{12,16}([0-9]{4})(?![0-9A-Za-z])")
_KEYS = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{48})(?![0-9A-Za-z])")


def event(logger: logging.Logger, level: int, name: str, **facts: Fact) -> None:
    """Log one event with its facts; masking happens in the formatter."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={"facts": facts})


def failure(logger: logging.Logger, name: str, fault: OnecardError) -> None:
    """Log a world error with its code and facts at level ERROR."""
    event(logger, logging.ERROR, name, code=fault.code, **fault.facts)


class LineFormatter(logging.Formatter):
    """`time level logger event key=value ...`, or the same as one JSON object per line."""

    def __init__(self, *, as_json: bool = False) -> None:
        super().__init__()
        self._as_json = as_json
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """The finished line, masked."""
        facts: dict[str, Fact] = getattr(record, "facts", {})
        shown = {name: mask(name, value) for name, value in facts.items()}
        if record.exc_info:
            shown["trace"] = scrub(self.formatException(record.exc_info))
        name = scrub(record.getMessage())
        if self._as_json:
            head = {"at": self.formatTime(record), "level": record.levelname, "event": name}
            return json.dumps(head | {"logger": record.name} | shown, ensure_ascii=False)
        pairs = " ".join(f"{key}={value}" for key, value in shown.items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {name} {pairs}"
        return line.rstrip()


def mask(name: str, value: Fact) -> int | str | None:
    """A fact as a log may show it, by the last word-part of its name."""
    if value is None:
        return None
    text = value.hex() if isinstance(value, bytes) else str(value)
    if name in SECRET_WORDS:
        return "***"
    if name in CARD_WORDS:
        return "…" + text[-4:]
    if name in WIRE_WORDS:
        return wire_brief(name, value) if isinstance(value, bytes) else "***"
    if isinstance(value, int):
        return value
    return scrub(text)


def scrub(text: str) -> str:
    """Free text with card numbers cut to four digits and key-sized hex removed."""
    return _KEYS.sub("***", _DIGITS.sub(r"…\1", text))


def wire_brief(name: str, raw: bytes) -> str:
    """An APDU as header and length, an answer as status word and length: never the body."""
    if name == "apdu":
        return f"{raw[:4].hex()}+{max(len(raw) - 4, 0)}"
    return f"{max(len(raw) - 2, 0)}+{raw[-2:].hex()}"


def setup(level: int, stream: TextIO, *, as_json: bool = False) -> None:
    """Send every logger of the process to `stream` through the one formatter."""
    logging.addLevelName(TRAFFIC, "TRAFFIC")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(as_json=as_json))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
