"""Bytes to values and back, and nothing else: no clock, no I/O, no logging.

Same bytes on any machine. Read in this order: errors, money, card (the purse on the chip), reader
(frames to the reader chip), wire (journal record, hash chain, signed segment, messages, topics).
"""
