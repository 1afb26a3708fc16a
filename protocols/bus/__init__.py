"""Frames of the wires behind a board: relay board, water meter, electricity meter.

Each codec: `encode`/`decode` of frozen dataclasses, and a bounded Splitter for a noisy line. Read in
this order: line (what they share), modbus, shower_map, pulses, cjt188, dlt645, master (one line).
"""
