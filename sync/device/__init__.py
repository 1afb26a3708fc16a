"""The daemon beside each terminal: reads the journal, speaks MQTT, keeps what the centre signed.

Read in this order: journal_view, store, lists, daemon, service.
"""
