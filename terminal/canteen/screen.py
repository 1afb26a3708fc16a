"""Screens of the till: texts by id, Chinese first, English second, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.ports import Screen
from protocols.money import format_yuan
from protocols.texts import TEXTS
from terminal.canteen.moves import Mode, Session, Show

OWN_TEXTS: dict[str, tuple[str, str]] = {
    "CLOSED_SHIFT": ("暂停服务 请操作员刷卡开班", "Closed: operator, tap your card"),
    "PAUSED": ("暂停服务", "Out of service"),
    "KEY_AMOUNT": ("请输入金额", "Key the amount"),
    "AMOUNT": ("请确认金额", "Confirm the amount"),
    "TAP_CARD": ("请刷卡", "Tap your card"),
    "HOLD_STILL": ("处理中 请勿晃动卡片", "Hold the card still"),
    "PAID": ("成功", "Paid"),
    "ASK_SERVED": ("已出餐?", "Was the meal given?"),
    "OPERATOR_CARD": ("请操作员刷卡", "Operator, tap your card"),
    "VOID_CARD": ("撤销 请刷原消费卡", "Void: tap the payer's card"),
    "VOIDED": ("已撤销", "Sale voided"),
    "SHIFT_CLOSED": ("已结班", "Shift closed"),
}
MODE_TEXTS = {Mode.AMOUNT: "金额", Mode.FIXED: "定额", Mode.MENU: "菜单"}


@dataclass(frozen=True, slots=True)
class Status:
    """What the operator's top line shows besides the sale."""

    unsynced: int
    warning: str | None = None  # a code that does not stop sales
    test_keys: bool = False


def text_of(name: str) -> tuple[str, str]:
    """Both languages of a text id or an error code."""
    return OWN_TEXTS.get(name) or TEXTS[name]


def picture(session: Session, show: Show, status: Status) -> Screen:
    """Both displays for an action Show."""
    zh, en = text_of(show.text)
    numbers = _numbers(session, show)
    head = f"{MODE_TEXTS[session.mode]} 未上传 {status.unsynced} 笔"
    code = f"{zh} [{show.text}]" if show.text in TEXTS else zh
    foot = [text_of(status.warning)[0]] if status.warning else []
    if status.test_keys:
        foot.append("演示密钥 TEST KEYS")
    operator = (head, f"{code} {numbers}".rstrip(), en, *foot)
    customer = tuple(line for line in (zh, numbers, en) if line)
    return Screen(operator, customer, show.beep)


def _numbers(session: Session, show: Show) -> str:
    if show.text == "AMOUNT" and session.mode is not Mode.MENU:
        return session.entry
    parts = []
    if show.fen is not None:
        parts.append(f"消费 {format_yuan(show.fen)}" if show.text == "PAID" else _yuan(show.fen))
    if show.balance_fen is not None:
        parts.append(f"余额 {format_yuan(show.balance_fen)}")
    return " ".join(parts)


def _yuan(fen: int) -> str:
    return f"{format_yuan(fen)} 元"
