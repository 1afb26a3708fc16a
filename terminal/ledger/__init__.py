"""The journal: append-only, hash-chained, durable before anything happens (ledger.md §3).

Read in this order: volume (files), store (append), replay (what the records mean), snapshot,
recovery (boot), audit. schema is the source of schema.sql and is never
imported by a running terminal.
"""
