"""Each invariant of ledger.md §11 is proved by a planted violation that it names."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire.record import Kind, own_of
from sync.central.audit import CHECKS, audit_books
from sync.central.summary import beancount, summary
from sync.central.tac import GivenKeys, TacDesk


@pytest.fixture
def books(campus: Any) -> Any:
    """Books with everything in them: sales, a reversal, a loss, a forged TAC, doubts, a fork."""
    pen, other = campus.terminal(), campus.terminal("T0002", "south", 200)
    chips = [campus.card() for _ in range(4)]
    stranger = campus.card(known=False)
    pen.begin()
    other.begin()
    campus.centre.publish_cards(campus.idem(), "office")
    _, capture = pen.sale(chips[0], 500)
    pen.sale(stranger, 40)
    own = own_of(Kind.REVERSAL, operator=bytes(10), reason="void")
    pen.add(Kind.REVERSAL, ref=capture.seq, inst=chips[0].asn, fen=500, own=own)
    forged = pen.intent(chips[1], 900)
    pen.capture(chips[1], forged, b"evil")
    torn = pen.intent(chips[2], 300)
    own = own_of(Kind.DOUBT, reason="link")
    pen.add(Kind.DOUBT, ref=torn.seq, inst=torn.inst, ctr=torn.ctr, fen=torn.fen, own=own)
    chips[2].paid(300)
    pen.add(Kind.METER, fen=7, own=(1, 2, 3, 4))
    campus.give(pen.segment())
    campus.centre.report_loss(campus.idem(), "office", chips[3].asn)
    campus.clock.step(60)
    other.sale(chips[3], 80)
    other.sale(chips[1], 100)
    other.sale(chips[2], 50)
    campus.give(other.segment())
    other.sale(chips[0], 60)
    late = other.intent(chips[0], 70)
    campus.give(other.segment())
    chips[0].paid(70)
    other.capture(chips[0], late, chips[0].tac(late), late=1, via="prove")
    for each in (pen, other):
        campus.clock.step(60)
        each.add(Kind.MARK)
        campus.give(each.segment())
    campus.work()
    for each in (pen, other):
        campus.clock.step(60)
        each.add(Kind.MARK)
        campus.give(each.segment())
    campus.work()
    campus.centre.lift_loss(campus.idem(), "office", chips[3].asn)
    campus.chips = chips
    return campus


def run(campus: Any, full: bool = True, *, aged: bool = False) -> dict[str, Any]:
    keys = TacDesk(GivenKeys(campus.mtk))
    now_us = campus.clock.now_us + (31 * 86_400_000_000 if aged else 0)
    found = audit_books(campus.engine, full, keys, now_us)
    return {check.name.split()[0]: check for check in found}


def broken(campus: Any, **options: Any) -> dict[str, str]:
    return {name: check.detail for name, check in run(campus, **options).items() if not check.ok}


def test_clean_books_are_clean(books: Any) -> None:
    """Every invariant holds, full and as a sample, and each says what it looked at."""
    assert broken(books) == {}
    assert broken(books, full=False) == {}
    found = run(books)
    assert len(found) == len(CHECKS) == 14
    assert "transfers equal" in found["C3"].detail
    assert "certificates recomputed" in found["TAC"].detail
    assert books.value("SELECT count(*) FROM doubt WHERE state = 1") == 1
    assert books.value("SELECT count(*) FROM suspense_item WHERE state = 2") == 1


def test_c1_names_a_wrong_balance(books: Any) -> None:
    """A balance that is not the sum of its transfers, and a sum that is not 0."""
    books.behind_triggers("balance", "UPDATE balance SET fen = fen + 5 WHERE account = 11")
    found = broken(books)
    assert "clearing:cash" in found["C1"]
    assert "sum of all balances is 5 fen" in found["C1"]


def test_c1_names_a_transfer_that_moved_no_balance(books: Any) -> None:
    """A row put into transfer by hand."""
    sql = "INSERT INTO transfer VALUES (0, 0, 999, 0, 11, 12, 77, 24, 1, 1, 1, 0)"
    books.behind_triggers("transfer", sql)
    found = broken(books)
    assert "clearing:cash" in found["C1"]
    assert "(0, 0, 999, 0)" in found["C3"]


def test_c2_finds_a_tampered_segment(books: Any) -> None:
    """One changed byte of the signed archive, behind the triggers' back."""
    raw = bytearray(books.value("SELECT cose FROM segment WHERE terminal = 1 AND first_seq = 1"))
    raw[len(raw) // 2] ^= 1
    sql = "UPDATE segment SET cose = :c WHERE terminal = 1 AND first_seq = 1"
    books.behind_triggers("segment", sql, c=bytes(raw))
    found = run(books)["C2"]
    assert not found.ok
    assert "segment at seq 1" in found.detail


def test_c2_finds_a_missing_segment(books: Any) -> None:
    """A deleted segment: the lane is not gapless and C13 misses an acknowledged position."""
    sql = "DELETE FROM segment WHERE terminal = 2 AND first_seq = 1"
    books.behind_triggers("segment", sql)
    found = broken(books)
    assert "seq 1 is missing" in found["C2"]
    assert "booked, but not archived" in found["C3"]


def test_c13_finds_a_lost_end(books: Any) -> None:
    """The last acknowledged segment is gone, or the cursor went back."""
    last = books.value("SELECT max(first_seq) FROM segment WHERE terminal = 2")
    sql = "DELETE FROM segment WHERE terminal = 2 AND first_seq = :s"
    books.behind_triggers("segment", sql, s=last)
    found = broken(books)
    assert "C2" in found
    assert "acked" in found["C13"]


def test_c2_finds_a_segment_of_no_lane(books: Any) -> None:
    """A segment smuggled in under an epoch that was never granted."""
    sql = (
        "INSERT INTO segment SELECT terminal, 9, first_seq, n, tip_h, cose, batch, received_us,"
        " offset_us FROM segment WHERE terminal = 1 AND first_seq = 1"
    )
    books.behind_triggers("segment", sql)
    assert "belongs to no lane" in broken(books)["C2"]


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE transfer SET fen = fen + 1 WHERE terminal = 2 AND leg = 0 AND seq = 4", "fen"),
        ("UPDATE transfer SET day = 1 WHERE terminal = 2 AND leg = 0 AND seq = 4", "day"),
        ("UPDATE transfer SET credit = 11 WHERE terminal = 2 AND leg = 0 AND seq = 4", "credit"),
        ("DELETE FROM transfer WHERE terminal = 2 AND leg = 0 AND seq = 4", "not booked"),
        ("DELETE FROM suspense_item WHERE reason = 'POST_SUSPENSE_KIND'", "is missing"),
        (
            "UPDATE transfer SET leg = 8, seq = 2 WHERE terminal = 2 AND leg = 0 AND seq = 4",
            "without a cause",
        ),
    ],
)
def test_c3_finds_what_the_archive_does_not_give(books: Any, sql: str, named: str) -> None:
    """Any change of what was posted differs from posting the archive again."""
    table = sql.split()[1 if sql.startswith("UPDATE") else 2]
    books.behind_triggers(table, sql)
    assert named in broken(books)["C3"]
    assert "C3" not in broken(books, full=False)


def test_c3_finds_a_doubt_that_was_not_decided(books: Any) -> None:
    """A purse debit by decision without the decision."""
    sql = "UPDATE doubt SET state = 2 WHERE via = 'counter'"
    books.behind_triggers("doubt", sql)
    assert "without a cause" in broken(books)["C3"]


def test_c4_names_an_account_below_its_floor(books: Any) -> None:
    """A wallet below 0."""
    sql = (
        "UPDATE balance SET fen = -1 WHERE account IN"
        " (SELECT id FROM account WHERE code = 'wallet:1:cash')"
    )
    books.behind_triggers("balance", sql)
    assert "wallet:1:cash: -1 fen" in broken(books)["C4"]


def test_c5_names_a_hold_without_money(books: Any) -> None:
    """An open hold that the hold account does not cover, and one captured above its fen."""
    for key, captured in ((b"1" * 16, 0), (b"2" * 16, 30)):
        sql = "INSERT INTO hold VALUES (:k, 1, 1, 16, 20, :c, 0, 0, 0, :k)"
        books.behind_triggers("hold", sql, k=key, c=captured)
    found = broken(books)["C5"]
    assert "hold:reservation: 0 fen, open holds 10" in found
    assert "captured above held" in found


def test_c6_names_a_balance_step_without_a_counter(books: Any) -> None:
    """A chip that shows more or less than its chain allows."""
    sql = (
        "UPDATE card_seen SET before_fen = before_fen + 9, after_fen = after_fen + 9 WHERE seq = 4"
    )
    books.behind_triggers("card_seen", sql)
    assert "expected" in broken(books)["C6"]


@pytest.mark.parametrize("seq", [4, 6])
def test_c6_names_a_debit_that_is_not_booked(books: Any, seq: int) -> None:
    """A proved debit of another amount than the purse was moved by."""
    sql = "UPDATE card_seen SET after_fen = after_fen - 9 WHERE terminal = 2 AND seq = :s"
    books.behind_triggers("card_seen", sql, s=seq)
    assert "debited" in broken(books)["C6"]


def test_c6_names_a_purse_moved_without_proof(books: Any) -> None:
    """A debit whose owner row was taken away has neither proof nor item."""
    sql = "DELETE FROM card_seen WHERE terminal = 2 AND seq = 6"
    books.behind_triggers("card_seen", sql)
    assert "without proof or item" in broken(books)["C6"]


def test_c6_lists_unsynced_gaps(books: Any) -> None:
    """A gap is listed with its amount and is no violation."""
    pen = books.terminal("T0003", "third", 300)
    pen.begin()
    chip = books.chips[0]
    chip.paid(33)
    pen.sale(chip, 10)
    books.give(pen.segment())
    books.work()
    found = run(books)["C6"]
    assert found.ok
    assert f"{chip.asn.hex()} counters 3-3 33 fen" in found.detail


@pytest.mark.parametrize(("code", "name"), [("load-transit:1", "C7"), ("prepaid:T1", "C8")])
def test_c7_c8_know_that_nothing_may_be_there_yet(books: Any, code: str, name: str) -> None:
    """A fen in transit or prepaid before loads and showers exist."""
    books.behind_triggers(
        "account", "INSERT INTO account VALUES (9999, :c, 8, NULL, NULL, 0, 0)", c=code
    )
    books.behind_triggers("balance", "INSERT INTO balance VALUES (9999, 5)")
    assert f"{code}: 5 fen" in broken(books)[name]


def test_c9_names_a_reversal_beyond_its_sale(books: Any) -> None:
    """More came back than was paid, or nothing was paid at all."""
    sql = "UPDATE transfer SET fen = 501 WHERE code = 14"
    books.behind_triggers("transfer", sql)
    assert "501 of 500 fen" in broken(books)["C9"]
    books.behind_triggers("reversal", "UPDATE reversal SET orig_seq = 9999")
    assert "of None fen" in broken(books)["C9"]
    books.behind_triggers("reversal", "DELETE FROM reversal")
    assert "reverses no sale" in broken(books)["C9"]


def test_c10_names_cash_that_no_card_explains(books: Any) -> None:
    """clearing:cash is what cards were issued with; a channel without statement is 0."""
    books.behind_triggers("card", "UPDATE card SET opening_fen = opening_fen + 1 WHERE id = 1")
    assert "clearing:cash" in broken(books)["C10"]
    sql = "UPDATE balance SET fen = 3 WHERE account IN (SELECT id FROM account WHERE code = :c)"
    books.behind_triggers("balance", sql, c="clearing:wechat")
    assert "clearing:wechat: 3 fen" in broken(books)["C10"]


def test_c11_names_a_terminal_that_sold_for_another(books: Any) -> None:
    """A merchant credited by a terminal that is not his."""
    sql = (
        "UPDATE transfer SET credit = (SELECT id FROM account WHERE code = 'merchant:south')"
        " WHERE code = 12"
    )
    books.behind_triggers("transfer", sql)
    found = broken(books)["C11"]
    assert "merchant:south" in found
    assert "not its own" in found
    assert "merchant:north: balance" in found


def test_c12_names_a_suspense_balance_without_items(books: Any) -> None:
    """An item closed without its money, and items that are too old."""
    sql = "UPDATE suspense_item SET state = 1 WHERE reason = 'POST_SUSPENSE_CARD'"
    books.behind_triggers("suspense_item", sql)
    assert "suspense:unknown-card: -40 fen, open items 0" in broken(books)["C12"]


def test_c12_names_old_items(books: Any) -> None:
    """Older than 30 days is red."""
    assert "older than 30 days" in broken(books, aged=True)["C12"]


def test_tac_names_a_verdict_that_is_not_true(books: Any) -> None:
    """A BAD certificate declared OK by hand, and a verdict about nothing."""
    books.behind_triggers("tac_result", "UPDATE tac_result SET result = 0 WHERE result = 2")
    assert "stored OK, found BAD" in broken(books)["TAC"]
    books.behind_triggers("tac_result", "INSERT INTO tac_result VALUES (1, 1, 1, 0, 1, 1)")
    assert "no archived sale" in broken(books)["TAC"]


def test_details_are_bounded(books: Any) -> None:
    """A thousand violations are counted, not listed."""
    books.behind_triggers("balance", "UPDATE balance SET fen = fen + 1")
    assert " more" in broken(books)["C1"]


def test_summary_counts_what_is_there(books: Any) -> None:
    """The figures of the demo's view."""
    found = summary(books.engine)
    assert [line.code for line in found.terminals] == ["T0001", "T0002"]
    assert found.cards == 4
    assert found.purses_fen + found.wallets_fen + sum(found.balances.values()) == 0
    assert (found.open_doubts, found.resolved_doubts) == (0, 1)
    assert found.open_items == 2


def test_beancount_recomputes_the_same_balances(books: Any) -> None:
    """An independent reading of the exported text gives every balance."""
    sums: dict[str, int] = {}
    for line in beancount(books.engine):
        if line.startswith("  "):
            account, amount, currency = line.split()
            yuan, cents = amount.removeprefix("-").split(".")
            fen = int(yuan) * 100 + int(cents)
            sums[account] = sums.get(account, 0) + (-fen if amount.startswith("-") else fen)
            assert currency == "CNY"
    assert sum(sums.values()) == 0
    assert sums["Liabilities:Merchant:South"] == books.fen("merchant:south")
    assert sums["Liabilities:Clearing:Cash"] == books.fen("clearing:cash") == -40_000
