"""Topic names and the names inside them (sync.md §2 and §4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

from protocols.errors import TopicError

PARTITIONS = 64
UP_LEAVES = ("journal", "hello", "state", "event", "req")
_SITE = re.compile(r"[a-z][a-z0-9]{1,7}", re.ASCII)
_TERM = re.compile(r"[A-Z][A-Z0-9]{3,11}", re.ASCII)
_PART = re.compile(r"p([0-5][0-9]|6[0-3])", re.ASCII)
_LIST = re.compile(r"[a-z]{2,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A parsed topic of the up tree."""

    site: str
    part: int
    term: str
    leaf: str


def partition_of(term: str) -> int:
    """CRC-32(terminal) mod 64; computed once at enrolment, then stored."""
    return crc32(term.encode("ascii")) % PARTITIONS


def check_site(site: str) -> str:
    """The site name, or WIRE_TOPIC."""
    return _match(_SITE, site, "site")


def check_term(term: str) -> str:
    """The terminal name, or WIRE_TOPIC: upper case only, so `all` and services never collide."""
    return _match(_TERM, term, "terminal")


def check_list(name: str) -> str:
    """The list name, or WIRE_TOPIC."""
    return _match(_LIST, name, "list")


def up(site: str, part: int, term: str, leaf: str) -> str:
    """Topic on which a terminal publishes `leaf`."""
    assert leaf in UP_LEAVES, leaf
    return f"cc/v1/{check_site(site)}/up/p{part:02d}/{check_term(term)}/{leaf}"


def up_filter(site: str) -> str:
    """The centre's subscription: every partition and terminal of a site."""
    return f"cc/v1/{check_site(site)}/up/+/+/+"


def down(site: str, term: str, leaf: str) -> str:
    """Topic for one terminal; leaf is ack, cmd, rsp or list/{name}/part."""
    return f"cc/v1/{check_site(site)}/dn/{check_term(term)}/{leaf}"


def list_part(site: str, term: str, name: str) -> str:
    """Topic for snapshot parts of a list, for one terminal."""
    return down(site, term, f"list/{check_list(name)}/part")


def list_head(site: str, name: str) -> str:
    """Retained topic of a list's signed head, for everybody."""
    return f"cc/v1/{check_site(site)}/dn/all/list/{check_list(name)}/head"


def list_delta(site: str, name: str, version: int) -> str:
    """Retained topic of one signed delta, for everybody."""
    return f"cc/v1/{check_site(site)}/dn/all/list/{check_list(name)}/delta/{version}"


def centre_state(site: str) -> str:
    """Retained topic: centre ready or draining; display only."""
    return f"cc/v1/{check_site(site)}/dn/all/state"


def terminal_filters(site: str, term: str) -> tuple[str, str]:
    """The two subscriptions of a terminal."""
    check_site(site)
    check_term(term)
    return f"cc/v1/{site}/dn/{term}/#", f"cc/v1/{site}/dn/all/#"


def parse_up(topic: str) -> UpTopic:
    """An up topic taken apart. Raises WIRE_TOPIC."""
    parts = topic.split("/")
    if len(parts) != 7 or parts[:2] != ["cc", "v1"] or parts[3] != "up":
        raise TopicError(field="topic", offset=0, got=topic[:96], clause="sync.md 4")
    part = _PART.fullmatch(parts[4])
    if part is None or parts[6] not in UP_LEAVES:
        raise TopicError(field="topic", offset=4, got=topic[:96], clause="sync.md 4")
    return UpTopic(check_site(parts[2]), int(part[1]), check_term(parts[5]), parts[6])


def _match(pattern: re.Pattern[str], name: str, field: str) -> str:
    if pattern.fullmatch(name) is None:
        raise TopicError(field=field, offset=0, got=name[:32], clause="sync.md 2")
    return name
