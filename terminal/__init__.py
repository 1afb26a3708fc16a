"""What the terminal decides; works with no network and does not know that one exists.

Read in this order: ledger (the journal), policy, canteen.tap (one purchase), canteen.session, boot.
"""
