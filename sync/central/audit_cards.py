"""Audit of purses against what the chips showed (C6), and of the certificates once more."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from sqlalchemy import Connection, Row, func, select

from protocols.wire.record import Kind, Record
from sync.central import archive, schema
from sync.central.posting import Code, DoubtState
from sync.central.rules import S_LOSS
from sync.central.tac import TacDesk, TacResult

Finding = tuple[list[str], str]
AnyRow = Row[tuple[object, ...]]
Key = tuple[int, int, int]

_card, _seen, _transfer = schema.card, schema.card_seen, schema.transfer
_item, _doubt, _tac = schema.suspense_item, schema.doubt, schema.tac_result


def purses(connection: Connection) -> Finding:
    """C6: a purse is the chip's last shown balance plus unsynced gaps and open claims, all listed."""
    cards = {row.id: row for row in connection.execute(select(_card))}
    chains: dict[int, list[AnyRow]] = defaultdict(list)
    for row in connection.execute(select(_seen).order_by(_seen.c.card, _seen.c.ctr)):
        chains[row.card].append(row)
    moved = _moved(connection)
    explained = _explained(connection)
    wrong: list[str] = []
    gaps: list[str] = []
    for key, card in sorted(cards.items()):
        chain = chains.get(key, [])
        wrong += _steps(card, chain, gaps)
        wrong += _booked(card, chain, moved.get(card.purse, {}), explained)
    doubts = connection.execute(
        select(func.count()).where(_doubt.c.state == int(DoubtState.OPEN))
    ).scalar_one()
    listed = f"; gaps: {', '.join(gaps[:8])}" if gaps else ""
    return wrong, f"{len(cards)} cards, {len(gaps)} unsynced gaps, {doubts} open doubts{listed}"


def _steps(card: AnyRow, chain: list[AnyRow], gaps: list[str]) -> list[str]:
    """Between proved debits the balance may only fall where counters are missing."""
    wrong = []
    asn = card.asn.hex()
    places = [(card.first_ctr, card.opening_fen), *((row.ctr + 1, row.after_fen) for row in chain)]
    shown = [*((row.ctr, row.before_fen) for row in chain)]
    for (next_ctr, after_fen), (ctr, before_fen) in zip(places, shown, strict=False):
        fell_fen, missing = after_fen - before_fen, ctr - next_ctr
        if missing < 0 or fell_fen < 0 or (missing == 0 and fell_fen != 0):
            wrong.append(f"card {asn}: counter {ctr} shows {before_fen} fen, expected {after_fen}")
        elif missing:
            gaps.append(f"{asn} counters {next_ctr}-{ctr - 1} {fell_fen} fen")
    wrong += [
        f"card {asn}: counter {a.ctr} has two owners" for a, b in pairwise(chain) if a.ctr == b.ctr
    ]
    return wrong


def _booked(
    card: AnyRow, chain: list[AnyRow], moved: dict[Key, int], explained: dict[Key, dict[str, int]]
) -> list[str]:
    """Each proved debit is booked once; any other movement of the purse has an item or a doubt."""
    wrong = []
    asn = card.asn.hex()
    owned = {(row.terminal, row.epoch, row.seq): row.before_fen - row.after_fen for row in chain}
    for key, fen in owned.items():
        net = -moved.get(key, 0)
        whole = net == 0 and explained.get(key, {}).get(S_LOSS) == fen
        if net != fen and not whole:
            wrong.append(f"card {asn}: record {key} debited {fen} fen on the chip, {net} booked")
    for key, net in moved.items():
        if net and key not in owned and key[0] and key not in explained:
            wrong.append(f"card {asn}: record {key} moved {net} fen without proof or item")
    return wrong


def _moved(connection: Connection) -> dict[int, dict[Key, int]]:
    """Net movement of every purse by the record that caused it."""
    purses_of = select(_card.c.purse)
    found: dict[int, dict[Key, int]] = defaultdict(lambda: defaultdict(int))
    for side, sign in ((_transfer.c.credit, 1), (_transfer.c.debit, -1)):
        rows = connection.execute(
            select(
                side.label("purse"),
                _transfer.c.terminal,
                _transfer.c.epoch,
                _transfer.c.seq,
                _transfer.c.fen,
            ).where(side.in_(purses_of), _transfer.c.code != int(Code.LIFTED))
        )
        for row in rows:
            found[row.purse][row.terminal, row.epoch, row.seq] += sign * row.fen
    return found


def _explained(connection: Connection) -> dict[Key, dict[str, int]]:
    """Records about which an item was opened, with reasons and amounts."""
    found: dict[Key, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(select(_item)):
        found[row.terminal, row.epoch, row.seq][row.reason] = row.claim_fen
    return found


def certificates(connection: Connection, keys: TacDesk | None) -> Finding:
    """Every stored TAC verdict is what the card's key says now."""
    rows = connection.execute(select(_tac)).all()
    if keys is None:
        return [], f"{len(rows)} verdicts not recomputed (needs --full and the keys)"
    stored = {(row.terminal, row.epoch, row.seq): TacResult(row.result) for row in rows}
    wrong = []
    for lane in sorted({key[:2] for key in stored}):
        wrong += _recheck(connection, lane, stored, keys)
    wrong += [f"verdict about {key}, which is no archived sale" for key in stored]
    return wrong, f"{len(rows)} certificates recomputed"


def _recheck(
    connection: Connection, lane: tuple[int, int], stored: dict[Key, TacResult], keys: TacDesk
) -> list[str]:
    """Take each stored verdict of a lane out of `stored` and compute it again."""
    wrong = []
    intents: dict[int, Record] = {}
    for seq, record, _ in archive.walk(connection, lane):
        if record is not None and record.kind == Kind.INTENT:
            intents[seq] = record
        if record is None or record.kind != Kind.CAPTURE or (*lane, seq) not in stored:
            continue
        verdict = stored.pop((*lane, seq))
        found = keys.check(intents.pop(record.ref or 0, None), record.get("tac"))
        if found is TacResult.BAD and record.get("late"):
            found = TacResult.MISSING
        if found is not verdict:
            wrong.append(f"record {(*lane, seq)}: stored {verdict.name}, found {found.name}")
    return wrong
