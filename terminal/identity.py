"""Who this terminal is: what enrolment left in the folder `identity` (sync.md §10)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.errors import OnecardError, WireFormError
from protocols.wire import cbor
from protocols.wire.cose import KeyRing
from protocols.wire.messages import Grant
from terminal.acks import CentreWord
from terminal.errors import IdentityError

FILE = "enrol.cbor"


@dataclass(frozen=True, slots=True)
class Identity:
    """The enrolment: name, centre's keys, and the grant of the first epoch, verified."""

    site: str
    terminal: str
    ring: KeyRing
    grant: Grant

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """From `identity/enrol.cbor`. Raises IDENTITY."""
        try:
            content: Any = cbor.loads((folder / FILE).read_bytes())
            ring = KeyRing(list(content["centre_keys"]))
            grant = CentreWord(content["terminal"], ring).grant_of(content["grant"])
            return cls(content["site"], content["terminal"], ring, grant)
        except OSError as fault:
            raise IdentityError(file=FILE, reason=fault.strerror) from fault
        except (WireFormError, KeyError, TypeError) as fault:
            raise IdentityError(file=FILE, reason="form") from fault
        except OnecardError as fault:
            raise IdentityError(file=FILE, reason=fault.code) from fault
