"""What travels between a terminal and the centre, byte for byte (sync.md §3-4, ledger.md §3.3).

Read in this order: cbor (the strict subset), record, chain, cose, segment, messages, lists, topics;
the contract for others is wire.cddl.
"""

FORMAT_VERSION = 1
RECORD_BYTES_MAX = 4_096
SEGMENT_RECORDS_MAX = 100
SEGMENT_BYTES_MAX = 65_536
