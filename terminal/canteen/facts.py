"""What the card pipeline may know of the till: journal, lists in force, limits, time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware.errors import SamError
from firmware.ports import SamInfo
from protocols.card.card_profile import CardProfile
from terminal.ledger.replay import State
from terminal.policy.limits import sale_refusal

if TYPE_CHECKING:
    from terminal.canteen.till import Ports, TillConfig

SAM_ASK_MS = 5_000


class TillFacts:
    """Facts over the till's ports; each call gives the value of now."""

    def __init__(self, ports: Ports, config: TillConfig) -> None:
        self._ports = ports
        self._cooldown_ms = config.cooldown_s * 1_000
        self._last_paid: tuple[bytes, int] | None = None
        self._sam: SamInfo | None = None
        self._sam_asked_ms = -SAM_ASK_MS
        self.sam_fault: str | None = None
        self.profile: CardProfile = ports.profile
        self.record_only_fen_max: int = config.record_only_fen_max

    @property
    def sam_known(self) -> bool:
        """Whether the SAM has told its terminal number."""
        return self._sam is not None

    @property
    def tid(self) -> bytes:
        """The SAM's terminal number; no tap goes so far before it is known."""
        assert self._sam is not None, "a tap ends as SAM_FAIL before it needs the number"
        return self._sam.tid

    def ask_sam(self) -> None:
        """Learn the SAM's terminal number; a SAM that does not answer is asked every 5 s."""
        if self._sam is not None or self.now_ms() - self._sam_asked_ms < SAM_ASK_MS:
            return
        self._sam_asked_ms = self.now_ms()
        try:
            self._sam = self._ports.sam.info()
            self.sam_fault = None
        except SamError as fault:
            self.sam_fault = fault.code

    @property
    def state(self) -> State:
        """What the journal says."""
        return self._ports.journal.state

    def wall_us(self) -> int:
        """Wall time, never behind the journal."""
        return max(self._ports.clock.wall_us(), self.state.hw_us)

    def now_ms(self) -> int:
        """Monotonic time."""
        return self._ports.clock.mono_us() // 1_000

    def blocked(self, asn: bytes) -> bool:
        """Whether the denylist in force now names this card."""
        return self._ports.news.desk.current.holds(asn)

    def paid(self, asn: bytes) -> None:
        """This card was served now."""
        self._last_paid = (asn, self.now_ms())

    def just_paid(self, asn: bytes) -> bool:
        """Whether this card was the last served, within the cool-down."""
        if self._last_paid is None or self._last_paid[0] != asn:
            return False
        return self.now_ms() - self._last_paid[1] < self._cooldown_ms

    def sale_refusal(self, asn: bytes, fen: int) -> str | None:
        """The code by which policy refuses this sale.

        The till itself may be stopped meanwhile: a card in doubt is still judged then, but neither
        it nor the next card is debited anew.
        """
        news = self._ports.news
        lists = news.desk.current
        policy = lists.policy
        if news.stop is not None:
            return news.stop
        if policy is None or lists.missing(self.state.versions) is not None:
            return "LIST_MISSING"
        quiet_ms = news.silence.quiet_ms(self.now_ms())
        return sale_refusal(policy, self.state, asn, fen, self.wall_us(), quiet_ms)

    def rights(self, asn: bytes) -> frozenset[str]:
        """What this card may do at the till, empty for a customer's; none for a blocked card."""
        operator = self._ports.news.desk.current.operators.get(asn)
        if operator is None or self.blocked(asn):
            return frozenset()
        return operator.rights
