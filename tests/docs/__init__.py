"""The documentation is run: its vectors are recomputed, its clients call a real gateway."""
