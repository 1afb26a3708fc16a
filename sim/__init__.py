"""Everything that is not ours, on its real wire: cards, readers, brokers' faults, people, the demo.

Production code never imports this package.
"""
