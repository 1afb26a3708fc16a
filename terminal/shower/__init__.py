"""The shower terminal: metering and the pure session machine."""
