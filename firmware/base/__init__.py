"""Runtime without hardware and without money: clock, chance, configuration, SQLite, keys, log, children.

The only part of firmware that the centre may import. Read config, sqlite, keys first.
"""
