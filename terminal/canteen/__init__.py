"""The canteen till: one purchase, one session, one loop's worth of glue.

Read in this order: asks (what a tap asks of the world), gather and tap (the card pipeline), table
and session (the states), screen (texts), till (the object that production and simulator run).
"""
