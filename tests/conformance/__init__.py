"""The OpenID Foundation's conformance modules for a provider, each played as a function against the running gateway.

    rig.py          what is played against, and what every module checks first
    basic.py        Basic OP and Form Post OP, which have one list
    discovery.py    Config OP, and what the logout plans read first
    logout.py       RP-Initiated, Back-Channel and Front-Channel OP
    __main__.py     python -m tests.conformance    plays them all and writes the table into docs/standards.md

A module passes, is warned, is skipped, or fails; a warning and a skip have a reason. `test_conformance.py` plays them
all as well, and compares what came of each with the table. A check is what the suite checks (August 2026); where it
only warns, so do we.
"""
