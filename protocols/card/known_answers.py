"""Known answers of purchase and load: recompute every value that an example's inputs allow.

Commands and answers are rebuilt whole: a key index of 00 or 01 and a present or absent Le are
the card's or the author's choice, as are key version and algorithm in an INIT answer and the
balance in a purchase's; everything else must come out byte for byte.
"""

from protocols.card.apdu import SW, Command, Response
from protocols.card.known_sheet import Sheet
from protocols.card.purse import (
    CreditAsk,
    DebitAnswer,
    DebitAsk,
    InitAsk,
    LoadInit,
    PurchaseInit,
    Purse,
    TxType,
    credit_load,
    debit,
    decode_tac,
    init_capp_purchase,
    init_load,
    init_purchase,
)
from protocols.card.suite import (
    Suite,
    load_mac1_message,
    load_mac2_message,
    load_tac_message,
    purchase_mac1_message,
    purchase_tac_message,
)
from protocols.money import FEN_MAX, Fen


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _amount(raw: bytes) -> Fen:
    return Fen(_number(raw))


def _with_and_without_le(command: Command) -> tuple[bytes, bytes]:
    bare = Command(command.cla, command.ins, command.p1, command.p2, command.body)
    return command.encode(), bare.encode()


# INIT: what P1 P2 say about the transaction type.
_INIT_TYPES = {
    (0x01, Purse.EP): TxType.PURCHASE,
    (0x01, Purse.ED): TxType.PURCHASE_ED,
    (0x03, Purse.EP): TxType.CAPP_PURCHASE,
    (0x00, Purse.EP): TxType.LOAD_EP,
    (0x00, Purse.ED): TxType.LOAD_ED,
}


def _read_init(raw: bytes) -> dict[str, bytes]:
    command = Command.decode(raw)
    asked = InitAsk.decode(command.body)
    facts = {"amount": asked.fen.to_bytes(4, "big"), "tid": asked.tid}
    for (p1, p2), kind in _INIT_TYPES.items():
        if (command.p1, command.p2) == (p1, p2):
            facts["type"] = bytes((kind,))
    return facts


def _build_init(kind: int, amount: Fen, tid: bytes, keyidx: int) -> Command | None:
    match kind:
        case TxType.PURCHASE:
            return init_purchase(amount, tid, keyidx, Purse.EP)
        case TxType.PURCHASE_ED:
            return init_purchase(amount, tid, keyidx, Purse.ED)
        case TxType.CAPP_PURCHASE:
            return init_capp_purchase(amount, tid, keyidx)
        case TxType.LOAD_EP:
            return init_load(amount, tid, keyidx, Purse.EP)
        case TxType.LOAD_ED:
            return init_load(amount, tid, keyidx, Purse.ED)
        case _:
            return None


def _check_init(sheet: Sheet) -> None:
    facts = sheet.all("type", "amount", "tid")
    candidates: list[bytes] = []
    for keyidx in (1, 0):
        if facts is not None:
            kind, amount, tid = facts
            command = _build_init(kind[0], _amount(amount), tid, keyidx)
            candidates += _with_and_without_le(command) if command else ()
    sheet.rebuilt("init", candidates, whole=True)


def _read_purchase_init(raw: bytes) -> dict[str, bytes]:
    answer = PurchaseInit.decode(Response.decode(raw).body)
    return {
        "balance": answer.balance.to_bytes(4, "big"),
        "seq": answer.offseq.to_bytes(2, "big"),
        "rnd": answer.rnd,
    }


def _read_debit(raw: bytes) -> dict[str, bytes]:
    asked = DebitAsk.decode(Command.decode(raw).body)
    return {"tseq": asked.termseq.to_bytes(4, "big"), "dt": asked.date + asked.time}


def _answered(body: bytes) -> bytes:
    return Response(body, SW.DONE).encode()


def check_purchase(sheet: Sheet, suite: Suite) -> None:
    """Session, MAC1, MAC2, TAC, INIT and its answer, DEBIT and its answer."""
    with_init = sheet.parsed("init", _read_init)
    with_answer = sheet.parsed("init_rsp", _read_purchase_init)
    with_debit = sheet.parsed("debit", _read_debit)
    session = sheet.compare("session", _purchase_session(sheet, suite))
    session = session or sheet.stated.get("session")
    mac1 = sheet.compare("mac1", _purchase_mac1(sheet, suite, session))
    mac2 = sheet.compare("mac2", _purchase_mac2(sheet, suite, session))
    tac = sheet.compare("tac", _purchase_tac(sheet, suite))
    sheet.compare("new_balance", _moved(sheet, -1))
    if with_init:
        _check_init(sheet)
    if with_answer:
        _check_purchase_init(sheet)
    if with_debit:
        _check_debit(sheet, mac1)
    if sheet.parsed("rsp", _read_debit_answer):
        _check_debit_answer(sheet, tac, mac2)


def _purchase_session(sheet: Sheet, suite: Suite) -> bytes | None:
    needed = sheet.all("key", "rnd", "seq", "tseq")
    if needed is None:
        return None
    key, rnd, seq, tseq = needed
    return suite.purchase_session(key, rnd, _number(seq), _number(tseq))


def _purchase_mac1(sheet: Sheet, suite: Suite, session: bytes | None) -> bytes | None:
    needed = sheet.all("amount", "type", "tid", "dt")
    if session is None or needed is None:
        return None
    amount, kind, tid, dt = needed
    message = purchase_mac1_message(_amount(amount), kind[0], tid, dt[:4], dt[4:])
    return suite.mac1_purchase(session, message)


def _purchase_mac2(sheet: Sheet, suite: Suite, session: bytes | None) -> bytes | None:
    amount = sheet.fact("amount")
    if session is None or amount is None:
        return None
    return suite.mac2_purchase(session, _amount(amount))


def _purchase_tac(sheet: Sheet, suite: Suite) -> bytes | None:
    needed = sheet.all("dtk", "amount", "type", "tid", "tseq", "dt")
    if needed is None:
        return None
    dtk, amount, kind, tid, tseq, dt = needed
    serial = _number(tseq)
    message = purchase_tac_message(_amount(amount), kind[0], tid, serial, dt[:4], dt[4:])
    return suite.tac(dtk, message)


def _moved(sheet: Sheet, sign: int) -> bytes | None:
    """The purse after the transaction; None where it is not known or would not fit."""
    needed = sheet.all("balance", "amount")
    if needed is None:
        return None
    left = _number(needed[0]) + sign * _number(needed[1])
    return left.to_bytes(4, "big") if 0 <= left <= FEN_MAX else None


def _check_purchase_init(sheet: Sheet) -> None:
    own = PurchaseInit.decode(Response.decode(sheet.stated["init_rsp"]).body)
    facts = sheet.all("balance", "seq", "rnd")
    assert facts is not None, sheet
    balance, seq, rnd = facts
    answer = PurchaseInit(_amount(balance), _number(seq), 0, own.keyver, own.alg, rnd)
    sheet.rebuilt("init_rsp", [_answered(answer.encode())], whole=True)


def _check_debit(sheet: Sheet, mac1: bytes | None) -> None:
    own = DebitAsk.decode(Command.decode(sheet.stated["debit"]).body)
    facts = sheet.all("tseq", "dt")
    assert facts is not None, sheet
    tseq, dt = facts
    command = debit(_number(tseq), dt[:4], dt[4:], own.mac1 if mac1 is None else mac1)
    sheet.rebuilt("debit", _with_and_without_le(command), whole=mac1 is not None)


def _read_debit_answer(raw: bytes) -> dict[str, bytes]:
    DebitAnswer.decode(Response.decode(raw).body)
    return {}


def _check_debit_answer(sheet: Sheet, tac: bytes | None, mac2: bytes | None) -> None:
    own = DebitAnswer.decode(Response.decode(sheet.stated["rsp"]).body)
    body = (own.tac if tac is None else tac) + (own.mac2 if mac2 is None else mac2)
    sheet.rebuilt("rsp", [_answered(body)], whole=tac is not None and mac2 is not None)


def check_load(sheet: Sheet, suite: Suite) -> None:
    """Session, MAC1, MAC2, TAC, new balance, INIT and its answer, CREDIT and its answer."""
    with_init = sheet.parsed("init", _read_init)
    with_answer = sheet.parsed("init_rsp", _read_load_init)
    with_credit = sheet.parsed("credit", _read_credit)
    session = sheet.compare("session", _load_session(sheet, suite))
    session = session or sheet.stated.get("session")
    mac1 = sheet.compare("mac1", _load_mac1(sheet, suite, session))
    mac2 = sheet.compare("mac2", _load_mac2(sheet, suite, session))
    grown = sheet.compare("new_balance", _moved(sheet, 1)) or sheet.stated.get("new_balance")
    tac = sheet.compare("tac", _load_tac(sheet, suite, grown))
    if with_init:
        _check_init(sheet)
    if with_answer:
        _check_load_init(sheet, mac1)
    if with_credit:
        _check_credit(sheet, mac2)
    if sheet.parsed("rsp", _read_credit_answer):
        own = decode_tac(Response.decode(sheet.stated["rsp"]).body)
        sheet.rebuilt("rsp", [_answered(tac or own)], whole=tac is not None)


def _read_load_init(raw: bytes) -> dict[str, bytes]:
    answer = LoadInit.decode(Response.decode(raw).body)
    return {
        "balance": answer.balance.to_bytes(4, "big"),
        "seq": answer.onlseq.to_bytes(2, "big"),
        "rnd": answer.rnd,
    }


def _read_credit(raw: bytes) -> dict[str, bytes]:
    asked = CreditAsk.decode(Command.decode(raw).body)
    return {"dt": asked.date + asked.time}


def _read_credit_answer(raw: bytes) -> dict[str, bytes]:
    decode_tac(Response.decode(raw).body)
    return {}


def _load_session(sheet: Sheet, suite: Suite) -> bytes | None:
    needed = sheet.all("key", "rnd", "seq")
    if needed is None:
        return None
    key, rnd, seq = needed
    return suite.load_session(key, rnd, _number(seq))


def _load_mac1(sheet: Sheet, suite: Suite, session: bytes | None) -> bytes | None:
    needed = sheet.all("balance", "amount", "type", "tid")
    if session is None or needed is None:
        return None
    balance, amount, kind, tid = needed
    message = load_mac1_message(_amount(balance), _amount(amount), kind[0], tid)
    return suite.mac(session, message)


def _load_mac2(sheet: Sheet, suite: Suite, session: bytes | None) -> bytes | None:
    needed = sheet.all("amount", "type", "tid", "dt")
    if session is None or needed is None:
        return None
    amount, kind, tid, dt = needed
    message = load_mac2_message(_amount(amount), kind[0], tid, dt[:4], dt[4:])
    return suite.mac(session, message)


def _load_tac(sheet: Sheet, suite: Suite, grown: bytes | None) -> bytes | None:
    needed = sheet.all("dtk", "seq", "amount", "type", "tid", "dt")
    if grown is None or needed is None:
        return None
    dtk, seq, amount, kind, tid, dt = needed
    counted = (_amount(grown), _number(seq), _amount(amount))
    return suite.tac(dtk, load_tac_message(*counted, kind[0], tid, dt))


def _check_load_init(sheet: Sheet, mac1: bytes | None) -> None:
    own = LoadInit.decode(Response.decode(sheet.stated["init_rsp"]).body)
    facts = sheet.all("balance", "seq", "rnd")
    assert facts is not None, sheet
    balance, seq, rnd = facts
    mac = own.mac1 if mac1 is None else mac1
    answer = LoadInit(_amount(balance), _number(seq), own.keyver, own.alg, rnd, mac)
    sheet.rebuilt("init_rsp", [_answered(answer.encode())], whole=mac1 is not None)


def _check_credit(sheet: Sheet, mac2: bytes | None) -> None:
    own = CreditAsk.decode(Command.decode(sheet.stated["credit"]).body)
    dt = sheet.fact("dt")
    assert dt is not None, sheet
    command = credit_load(dt[:4], dt[4:], own.mac2 if mac2 is None else mac2)
    sheet.rebuilt("credit", _with_and_without_le(command), whole=mac2 is not None)
