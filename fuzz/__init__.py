"""Hostile inputs for all that reads off the wire: `make fuzz`; README.md says what holds for each of them."""
