"""The whole system as real processes on this machine: broker, centre, tills and their daemons.

Used by the demo and by the whole-line tests. Only cards and readers are simulated here, on their
real wires; everything else is the product, started by its own commands.
"""
