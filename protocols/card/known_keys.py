"""Known answers of diversification, authentication and secure messaging."""

from protocols.card.known_sheet import Outcome, Sheet
from protocols.card.purse import auth_cryptogram
from protocols.card.suite import MAC_LEN, Suite


def check_diversify(sheet: Sheet, suite: Suite) -> None:
    """The card's key from a master key and the last 8 bytes of the ASN."""
    needed = sheet.all("mk", "asn")
    got = None if needed is None else suite.diversify(needed[0], needed[1][-8:])
    sheet.compare("dk", got)


def check_auth(sheet: Sheet, suite: Suite) -> None:
    """The cryptogram of EXTERNAL AUTHENTICATE and the answer of INTERNAL AUTHENTICATE."""
    key = sheet.fact("key", "key8", "key16")
    challenge = sheet.fact("challenge", "challenge4", "challenge8")
    plain = sheet.fact("data")
    cryptogram = out = None
    if key is not None and challenge is not None:
        cryptogram = auth_cryptogram(suite, key, challenge)
    if key is not None and plain is not None:
        out = suite.encrypt(key, plain)
    sheet.compare("cryptogram", cryptogram)
    sheet.compare("out", out)


def check_secure_messaging(sheet: Sheet, suite: Suite) -> None:
    """The MAC over header and data, stated apart or at the end of a whole command."""
    key = sheet.fact("key", "key8", "key16")
    rnd = sheet.fact("rnd", "challenge", "challenge4", "challenge8")
    message = _message(sheet)
    mac = None
    if key is not None and rnd is not None and message is not None:
        mac = suite.sm_mac(key, rnd, message)
    mac = sheet.compare("mac", mac)
    if "apdu" in sheet.stated:
        _check_apdu(sheet, message, mac)


def _message(sheet: Sheet) -> bytes | None:
    if (message := sheet.fact("message")) is not None:
        return message
    if (header := sheet.fact("header")) is not None:
        body = sheet.fact("data") or b""
        lc = b"" if len(header) == 5 else bytes((len(body) + MAC_LEN,))
        return header + lc + body
    apdu = sheet.fact("apdu")
    if apdu is None:
        return None
    complete = len(apdu) == 5 + apdu[4] and apdu[4] >= MAC_LEN
    return apdu[:-MAC_LEN] if complete else apdu


def _check_apdu(sheet: Sheet, message: bytes | None, mac: bytes | None) -> None:
    """A whole command ends with the MAC; one without it ends before."""
    if message is None or mac is None:
        sheet.note("apdu", Outcome.NOT_COMPUTABLE)
        return
    sheet.rebuilt("apdu", [message + mac, message], whole=True)
