"""Codes that people key in: reservation codes, their leases between stalls, the guess limiter.

Read in this order: digits (Damm), reservation (derivation and windows), limiter, lease.
"""
