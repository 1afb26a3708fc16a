"""Whether a sale may be: limits, denylist, tariff, offline ceilings, and what each code does.

Pure functions over the journal's state and the lists in force. Read limits first, then reactions.
"""
