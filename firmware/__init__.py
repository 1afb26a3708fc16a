"""The board: reactor, ports, one driver per device. Changes with the hardware; knows no money.

Read in this order: ports, base (runtime without hardware), reactor, card_worker, registry, drivers.
"""
