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
    # card, reader chip and their files (protocols)
    "CARD_APDU": ("请重新放卡", "Malformed card answer, present the card again"),
    "CARD_ANSWER": ("无法识别此卡", "Card answered in an unknown form"),
    "CARD_FILE": ("无法识别此卡", "Not a card of this campus"),
    "CARD_RECORD": ("无法识别此卡", "Card record has an unknown form"),
    "PROFILE_UNKNOWN_KEY": ("卡片配置错误", "Card profile: remove or correct the named key"),
    "PROFILE_VALUE": ("卡片配置错误", "Card profile: correct the named value"),
    "PN532_FRAME": ("读卡器故障", "Malformed frame from the reader"),
    "PN532_ANSWER": ("读卡器故障", "Reader answered in an unknown form"),
    "KAT_FORM": ("测试数据格式错误", "Known-answer file: correct the named field"),
    "DECODE_KIND": ("未知类型", "Unknown kind: choose one of those listed"),
    # runtime (firmware.base)
    "RUNTIME": ("程序错误", "Runtime error"),
    "CONFIG": ("配置错误，请检查配置文件", "Configuration error: correct the named key"),
    "JOURNAL_FAIL": ("设备暂停服务", "Out of service: journal or disk fault"),
    "JOURNAL_SQLITE_OLD": ("系统组件版本过低", "SQLite library too old, update the system"),
    "KEYS_MISSING": ("缺少密钥", "Key not found"),
    "KEYS_EXISTS": ("密钥已存在", "Key exists already and is never overwritten"),
    "KEYS_SEALED": ("密钥库无法打开", "Key store does not open: wrong passphrase or altered"),
    "KEYS_INSECURE": ("密钥文件权限不安全", "Key file is readable by others or not sealed"),
    "CHILD_DOWN": ("子程序无法启动", "Program cannot be started"),
    # board (firmware)
    "FIRMWARE": ("设备错误", "Device error"),
    "READER": ("读卡器故障", "Card reader fault"),
    "CARD_GONE": ("请重新放卡", "Card removed, present it again"),
    "LINK_LOST": ("读卡器故障", "Card reader line failed"),
    "CARD_MUTE": ("请重新放卡", "Card does not answer, present it again"),
    "READER_BUSY": ("请重新放卡", "Reader busy, present the card again"),
    "READER_DOWN": ("读卡器故障", "Card reader not reachable"),
    "SAM_FAIL": ("设备暂停服务", "Out of service: SAM fault"),
    "SAM_INSECURE": ("设备暂停服务", "Software SAM refused outside development"),
    "QUEUE_FULL": ("设备暂停服务", "Out of service: event queue full"),
    # simulated devices (sim)
    "SIM": ("模拟设备错误", "Simulated device"),
    "SIM_CARD_TORN": ("模拟卡已移开", "Simulated card removed"),
}
