"""Clients that nobody here wrote, each against the running gateway; their programs are in `programs/`."""
