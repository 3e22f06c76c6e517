"""What a client's program says to the test that runs it: JSON, a line each."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

ISSUER, API = os.environ["ISSUER"], os.environ.get("API", "")
CLIENT_ID, CLIENT_SECRET = os.environ.get("CLIENT_ID", ""), os.environ.get("CLIENT_SECRET", "")
REDIRECT_URI = os.environ.get("REDIRECT_URI", "")
OAUTH = f"{ISSUER}/oauth2"


def opened(url: str) -> str:
    """The address at which a person's browser ends that was sent to `url`."""
    print(json.dumps({"open": str(url)}), flush=True)
    return input()


def refused(call: Callable[[], int]) -> int:
    """What a call is answered once its token is revoked, which is so within a second."""
    ends = time.monotonic() + 1
    while (status := call()) == 200 and time.monotonic() < ends:
        time.sleep(0.01)
    return status


def done(**facts: Any) -> None:
    """What came of it."""
    print(json.dumps({"done": facts}), flush=True)
