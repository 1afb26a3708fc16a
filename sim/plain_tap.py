"""A purchase by the book without a terminal: SELECT, READ RECORD, INIT, MAC1, DEBIT, MAC2.

For card and reader tests and for the bench; it keeps no journal and must never become a till.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware.ports import Mac1Ask, SamPort
from protocols.card import purse
from protocols.card.apdu import Command, Response
from protocols.card.card_profile import CardProfile
from protocols.card.files import CardInfo, parse_fci
from protocols.money import Fen

DATE, TIME = bytes.fromhex("20260301"), bytes.fromhex("123045")


@dataclass(frozen=True, slots=True)
class Tapped:
    """How far a purchase came: the status word that ended it, and what the card proved."""

    sw: int
    offseq: int = -1
    termseq: int = -1
    tac: bytes = b""
    mac2: bytes = b""
    proved: bool = False


def plain_purchase(
    send: Callable[[bytes], bytes],
    sam: SamPort,
    fen: int,
    profile: CardProfile | None = None,
    *,
    date: bytes = DATE,
    time: bytes = TIME,
) -> Tapped:
    """Debit `fen` through `send` (one APDU, raw answer); stops at the first refusal."""
    known = profile or CardProfile()
    tid = sam.info().tid

    def ask(command: Command) -> Response:
        return Response.decode(send(command.encode()))

    selected = ask(purse.select_aid(known.aid))
    if not selected.ok:
        return Tapped(selected.sw)
    raw = parse_fci(selected.body).info_raw
    if raw is None:
        raw = ask(purse.read_binary(known.sfi_info, 0, 30)).body
    info = CardInfo.decode(raw, known.info_layout)
    ask(purse.read_record(known.sfi_record, 1))
    opened = ask(purse.init_purchase(Fen(fen), tid, known.keyidx_purchase))
    if not opened.ok:
        return Tapped(opened.sw)
    init = purse.PurchaseInit.decode(opened.body)
    want = Mac1Ask(
        asn8=info.asn8,
        rnd=init.rnd,
        offseq=init.offseq,
        fen=Fen(fen),
        type=purse.TxType.PURCHASE,
        date=date,
        time=time,
        keyver=init.keyver,
        alg=init.alg,
    )
    got = sam.mac1(want)
    paid = ask(purse.debit(got.termseq, date, time, got.mac1))
    if not paid.ok:
        return Tapped(paid.sw, init.offseq, got.termseq)
    answer = purse.DebitAnswer.decode(paid.body)
    proved = sam.check_mac2(answer.mac2)
    return Tapped(paid.sw, init.offseq, got.termseq, answer.tac, answer.mac2, proved)
