"""Sales through the whole receive path, on both databases."""

from __future__ import annotations

from typing import Any

from protocols.wire.messages import Ack


def test_a_sale_moves_the_fen_and_is_acknowledged(campus: Any) -> None:
    """INTENT and CAPTURE in one segment: purse to merchant, one ack with the tip's hash."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 350)
    answers = campus.give(pen.segment())
    assert [type(a) for a in answers] == [Ack]
    assert (answers[0].epoch, answers[0].seq, answers[0].hash) == (1, 4, pen.tip.hash)
    assert campus.fen("merchant:north") == 350
    assert campus.purse(chip) == 10_000 - 350 == chip.balance
    campus.work()
    assert campus.value("SELECT result FROM tac_result") == 0
    assert campus.value("SELECT next_ctr FROM card_chain") == 1
    assert campus.value("SELECT count(*) FROM suspense_item") == 0
