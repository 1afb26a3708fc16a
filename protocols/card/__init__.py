"""The CPU card's own language: APDUs, files, purse commands, cryptography, PSAM and the judge.

Everything here is pure: bytes in, values or one typed error out. No reader, no clock, no
journal. Read in this order: apdu, files, suite, purse, psam, card_profile, recovery.
"""
