"""The decisions of a tap that guard money, each one a small function in one frozen set.

Production uses the defaults. The simulator plants a bug by replacing one of them; no other switch
exists, so what it breaks is exactly the rule named here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from protocols.card.card_profile import CardProfile
from protocols.card.recovery import Evidence, Intent, Verdict, Via, judge
from terminal.canteen.asks import Answer, Append, Appended, Ask, Facts, Serve
from terminal.ledger.replay import OpenIntent

Finish = Callable[[Append, Serve], Generator[Ask, Answer, int]]


def capture_then_serve(capture: Append, serve: Serve) -> Generator[Ask, Answer, int]:
    """CAPTURE durable, then the announcement; the seq of CAPTURE (card.md §1 rule 1)."""
    appended = yield capture
    assert isinstance(appended, Appended), appended
    yield serve
    return appended.seq


def carry_prev(prev: bytes | None) -> bytes | None:
    """Every INTENT carries the card's record before it (card.md §5.1)."""
    return prev


def blocked_at_intent(facts: Facts, asn: bytes) -> bool:
    """The denylist in force in the very step that appends INTENT (card.md §5.1 row 6)."""
    return facts.blocked(asn)


def service_on(via: Via, intent: OpenIntent, facts: Facts) -> bool:
    """Whether a recovered sale may be served: proven by MAC, or once by record up to a limit."""
    if via is Via.PROVE:
        return True
    if intent.asn in facts.state.unconfirmed or intent.asn in facts.state.suspects:
        return False
    return intent.fen <= facts.record_only_fen_max


def mac2_holds(checked: object) -> bool:
    """MAC2 counts only when the SAM said yes (card.md §1 rule 5)."""
    return checked is True


@dataclass(frozen=True, slots=True)
class TapRules:
    """The guards of one purchase, in the order in which it meets them."""

    judge: Callable[[Intent, Evidence, CardProfile], Verdict] = judge
    service_on: Callable[[Via, OpenIntent, Facts], bool] = service_on
    carry_prev: Callable[[bytes | None], bytes | None] = carry_prev
    blocked_at_intent: Callable[[Facts, bytes], bool] = blocked_at_intent
    mac2_holds: Callable[[object], bool] = mac2_holds
    finish: Finish = capture_then_serve


PRODUCTION = TapRules()
