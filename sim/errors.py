"""Errors of simulated devices: they happen to the transport, never to the product."""

from __future__ import annotations

from protocols.errors import OnecardError


class SimError(OnecardError):
    """Base of the errors of sim."""

    code = "SIM"


class CardTornError(SimError):
    """The simulated card left; facts: at, apdu, heard (what had gone out of its answer)."""

    code = "SIM_CARD_TORN"


class PcscStageError(SimError):
    """The private pcscd cannot be set up: a tool is missing, no right, or it does not start."""

    code = "SIM_PCSC"
