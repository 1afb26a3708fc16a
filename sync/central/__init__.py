"""The centre: ingest, books, cards, lists, enrolment. No terminal code and no hardware here.

Read in this order: schema, accounts, ingest_core (rows of sync.md §6), rules (what a record posts),
ingest (the one transaction), workers (TAC, continuity, doubts), office (acts of people), centre
(the facade), enrolment and service (the processes around it), audit (what must always hold).
"""
