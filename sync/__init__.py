"""What needs the network, or is the centre.

Read in this order: core (terminal side of the protocol, pure), device (the daemon), central (the
books), broker, cli.
"""
