"""A strict purse card: it refuses whatever a real one refuses, and it can be torn anywhere.

A lenient simulator hides terminal bugs, so lengths, state, key index, MACs and counters are all
enforced (card.md §10). The object knows no transport: `exchange` takes an APDU and returns body
and status word, or raises CardTornError when the tear plan says that the card left. A transport
in real time uses `begin` and `Pending.finish`, with the EEPROM delay between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from firmware.base.rng import Rng
from protocols.card.card_profile import CardProfile
from protocols.card.suite import SUITES, Suite
from sim.card_commands import Work, answer
from sim.card_memory import CardKeys, Masters, Moved, Purse, info_file
from sim.errors import CardTornError

ATS = bytes.fromhex("0A7880A0022090000000")  # FSCI 8 (256 bytes), FWI 10
ATR = bytes.fromhex("3B80800101")  # T=1


class TearAt(Enum):
    """Where in the life of one APDU the card leaves."""

    ACTIVATION = "activation"  # during RATS or before the ATR; `apdu` is ignored
    BEFORE_DELIVERY = "before-delivery"
    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"
    MID_REPLY = "mid-reply"


@dataclass(frozen=True, slots=True)
class Tear:
    """Leave at the apdu-th exchange from now (0 = the next), `reply_count` bytes into the answer."""

    at: TearAt
    apdu: int = 0
    reply_count: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivered command whose effect is not in EEPROM yet."""

    card: SimCard
    work: Work
    tear: Tear | None
    delay_ms: int

    def finish(self) -> bytes:
        """Commit and answer. Raises CardTornError as planned, or if the power went away."""
        return self.card.settle(self)


class SimCard:
    """One card; EEPROM survives power_off, everything else does not."""

    def __init__(
        self,
        profile: CardProfile,
        keys: CardKeys,
        purse: Purse,
        rng: Rng,
        *,
        uid: bytes,
        pin: bytes = b"\x12\x34\x56",
    ) -> None:
        self.profile = profile
        self.uid = uid
        self.ats = ATS
        self.atr = ATR
        self.delays_ms: Mapping[int, int] = {}  # EEPROM time by INS, for transports in real time
        self.history: list[Moved] = []
        self.sent_count = 0
        self._keys = keys
        self._purse = purse
        self._rng = rng
        self._suite: Suite = SUITES[profile.suite]()
        self._work: Work | None = None  # volatile state; None without power
        self._pin = pin
        self._tear: Tear | None = None
        self._since_plan = 0

    @classmethod
    def issue(
        cls,
        asn: bytes,
        masters: Masters,
        rng: Rng,
        *,
        balance_fen: int,
        profile: CardProfile | None = None,
        start: str = "20250101",
        expiry: str = "20491231",
        enabled: bool = True,
    ) -> SimCard:
        """Personalise a card: keys diversified for the 10-byte ASN, files written, purse filled."""
        assert len(asn) == 10, asn
        known = profile or CardProfile()
        keys = CardKeys.diversify(masters, SUITES[known.suite](), asn)
        info_raw = info_file(asn, known.info_layout, start, expiry, enabled=enabled)
        return cls(known, keys, Purse(balance_fen, info_raw=info_raw), rng, uid=rng.token(4))

    @classmethod
    def foreign(cls, rng: Rng) -> SimCard:
        """Somebody else's card: another application, keys nobody here knows."""
        profile = CardProfile(aid=bytes.fromhex("A000000333010101"))
        masters = Masters(*(rng.token(16) for _ in range(4)))
        return cls.issue(rng.token(10), masters, rng, balance_fen=10_000, profile=profile)

    def clone(self, rng: Rng) -> SimCard:
        """A copy with the same keys and memory; from here on the two diverge."""
        twin = SimCard(self.profile, self._keys, self._purse, rng, uid=rng.token(4), pin=self._pin)
        twin.history = list(self.history)
        return twin

    # what an auditor may read without the card's consent

    @property
    def purse(self) -> Purse:
        """The EEPROM as it is."""
        return self._purse

    @property
    def balance_fen(self) -> int:
        """The purse's balance on the chip."""
        return self._purse.balance

    @property
    def powered(self) -> bool:
        """Whether the card is in a field or a slot."""
        return self._work is not None

    def age(self, **changes: int) -> None:
        """Set counters or balance directly: a card that has lived, for tests."""
        self._purse = replace(self._purse, **changes)  # type: ignore[arg-type]

    # faults

    def plan(self, tear: Tear | None) -> None:
        """Arrange one tear; it fires once."""
        self._tear = tear
        self._since_plan = 0

    @property
    def planned(self) -> Tear | None:
        """The tear that has not fired yet."""
        return self._tear

    # life in a reader

    def power_on(self) -> bytes:
        """Activate; returns the ATS. Raises CardTornError for a tear planned at activation."""
        self.power_off()
        if self._tear is not None and self._tear.at is TearAt.ACTIVATION:
            self._tear = None
            raise CardTornError(at=TearAt.ACTIVATION.value)
        self._work = Work(self._purse, self._keys, self.profile, self._suite, self._rng, self._pin)
        return self.ats

    def power_off(self) -> None:
        """Lose everything that is not in EEPROM."""
        self._work = None

    def exchange(self, apdu: bytes) -> bytes:
        """One APDU, answered at once. Raises CardTornError as planned or without power."""
        return self.begin(apdu).finish()

    def begin(self, apdu: bytes) -> Pending:
        """Deliver an APDU. Raises CardTornError if it does not get here or gets no further."""
        tear = self._due_tear()
        if self._work is None:
            raise CardTornError(at="no-power")
        if tear is not None and tear.at is TearAt.BEFORE_DELIVERY:
            self._leave(tear)
        self.sent_count += 1
        work = replace(self._work, purse=self._purse, moved=None)
        self._work = answer(work, apdu)
        if tear is not None and tear.at is TearAt.BEFORE_COMMIT:
            self._leave(tear)
        delay_ms = self.delays_ms.get(apdu[1], 0) if len(apdu) > 1 else 0
        return Pending(self, self._work, tear, delay_ms)

    def settle(self, pending: Pending) -> bytes:
        """Commit what `begin` worked out and answer; see Pending.finish."""
        if self._work is None:
            raise CardTornError(at="no-power")
        self._purse = pending.work.purse
        if pending.work.moved is not None:
            self.history.append(pending.work.moved)
        tear, reply = pending.tear, pending.work.reply
        if tear is not None and tear.at is TearAt.AFTER_COMMIT:
            self._leave(tear)
        if tear is not None and tear.at is TearAt.MID_REPLY:
            self._leave(tear, reply[: tear.reply_count])
        return reply

    def _due_tear(self) -> Tear | None:
        tear = self._tear
        if tear is None or tear.at is TearAt.ACTIVATION:
            return None
        position, self._since_plan = self._since_plan, self._since_plan + 1
        if position != tear.apdu:
            return None
        self._tear = None
        return tear

    def _leave(self, tear: Tear, heard: bytes = b"") -> None:
        self.power_off()
        raise CardTornError(at=tear.at.value, apdu=tear.apdu, heard=heard)
