"""What the books must say, recomputed from chips, journals and what people saw.

Shares no posting code with the centre: the books are read as plain SQL rows, records are taken
apart by position. Read in this order: books, expected, audit.
"""
