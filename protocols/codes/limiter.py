"""The guess limiter of a stall: a token bucket that neither reboot nor clock can refill (codes.md §2.7).

State is a value; the caller journals it (CODE_TRY) before the answer is shown. `hw_us` is the clock
high-water mark: it never falls, so a clock set back adds nothing and one set forward at most the cap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BURST = 5
REFILL_US = 450_000_000  # one token per 7.5 min
RESUME_RESERVE = 3
TYPOS_MAX = 30
TYPO_WINDOW_US = 600_000_000
TYPO_PAUSE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens left and the instant up to which refills were counted."""

    tokens: int = BURST
    counted_us: int = 0
    resumes: int = RESUME_RESERVE

    def at(self, hw_us: int, burst: int = BURST, refill_us: int = REFILL_US) -> Bucket:
        """The bucket with the refills due by `hw_us`."""
        if self.counted_us == 0:
            return replace(self, counted_us=hw_us)
        gained = max(hw_us - self.counted_us, 0) // refill_us
        if not gained:
            return self
        tokens = min(burst, self.tokens + gained)
        resumes = RESUME_RESERVE if tokens == burst else self.resumes
        return Bucket(tokens, self.counted_us + gained * refill_us, resumes)

    def allows(self, *, resuming: bool) -> bool:
        """Whether a try may be judged: three more are kept for resuming an interrupted lease here."""
        return self.tokens > 0 or (resuming and self.resumes > 0)

    def spent(self, *, resuming: bool) -> Bucket:
        """After one wrong guess."""
        if self.tokens > 0:
            return replace(self, tokens=self.tokens - 1)
        assert resuming, "asked `allows` first"
        assert self.resumes > 0, "asked `allows` first"
        return replace(self, resumes=self.resumes - 1)


@dataclass(frozen=True, slots=True)
class Typos:
    """Typing faults are no guesses, but 30 in 10 minutes pause the keypad for a minute."""

    since_us: int = 0
    count: int = 0
    paused_until_us: int = 0

    def paused(self, now_us: int) -> bool:
        """Whether the keypad rests."""
        return now_us < self.paused_until_us

    def noted(self, now_us: int) -> Typos:
        """After one more typo."""
        if now_us - self.since_us >= TYPO_WINDOW_US:
            return Typos(now_us, 1)
        count = self.count + 1
        if count < TYPOS_MAX:
            return replace(self, count=count)
        return Typos(now_us, 0, now_us + TYPO_PAUSE_US)
