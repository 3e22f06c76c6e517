"""Proxies beside each other under one load: `make bench`, or `python -m bench.run --help`."""
