"""What the benchmark signs, by the gateway's own judgement."""

import time

from bench.signing import Signer
from gateway.credentials import mac, split
from gateway.credentials.signed import Signed, from_mac

_KEY = b"obviously-a-fake-key-for-this-test"
_SIGNER = Signer("gwa_obviously-a-fake-token", _KEY)


def _read(credential: str, path: bytes = b"/signed/small?a=b") -> Signed:
    scheme, rest = split(credential.encode())
    assert scheme == "mac"
    return from_mac(mac.parse(rest), mac.Covered(method="GET", target=path, host="127.0.0.1", port=8123))


def test_every_request_is_signed_now_with_a_nonce_of_its_own() -> None:
    before = int(time.time())
    found = [_read(text) for _ in range(2) for text in _SIGNER.credentials("/signed/small?a=b", 8123, 500)]
    assert all(signed.proven_by(_KEY, "hmac-sha-256") for signed in found)
    assert {signed.token for signed in found} == {_SIGNER.token}
    assert all(before <= (signed.created or 0) <= time.time() for signed in found)
    assert len({signed.nonce for signed in found}) == 1000


def test_signature_is_for_one_path_and_key() -> None:
    (credential,) = _SIGNER.credentials("/signed/small?a=b", 8123, 1)
    assert not _read(credential, b"/signed/small?a=c").proven_by(_KEY, "hmac-sha-256")
    assert not _read(credential).proven_by(_KEY[1:], "hmac-sha-256")
