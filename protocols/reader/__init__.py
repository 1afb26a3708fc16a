"""What travels between this board and a card reader: frames, never sessions.

No serial port and no time-out lives here; drivers feed bytes in and take frames out.
Read in this order: pn532.
"""
