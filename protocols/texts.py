"""One text per error code, Chinese first, English second: what a cashier or installer can act on.

Kept by area; a test walks every error class of the product and demands its line here.
"""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # money and wire
    "ONECARD": ("程序错误", "Program error"),
    "MONEY_TYPE": ("金额无效", "Amount is not a number"),
    "MONEY_RANGE": ("金额超出范围", "Amount out of range"),
    "MONEY_TEXT": ("金额无效", "Amount is not a valid number of yuan"),
    "FRAME_BAD": ("通信错误", "Malformed frame"),
    "BCD": ("通信错误", "Malformed BCD digits"),
    "WIRE_RECORD": ("记录无法识别", "Journal record cannot be decoded"),
    "WIRE_FORM": ("报文格式错误", "Malformed message"),
    "WIRE_SIG": ("签名错误", "Signature does not verify"),
    "WIRE_TOPIC": ("主题错误", "Topic or name not allowed"),
    "WIRE_LIST": ("名单校验失败", "List does not verify"),
}
