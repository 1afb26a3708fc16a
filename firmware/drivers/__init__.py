"""One module per device, siblings that never import each other; only serial_link lies below them.

A driver implements a port of firmware.ports and imports its hardware library when it is opened.
"""
