"""Tokens that sign, for an operator who explains a refusal: also dead ones, with their keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.crypto import UnsealError, digest
from gateway.model import MacAlgorithm, MacDraft, TokenType
from gateway.store.base import Base
from gateway.store.database import Row
from gateway.store.tokens import MAC_KEY

_OTHERS: Final = 200  # tokens of one client whose keys are worth a try


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningToken:
    """An access token, dead or alive. `key` is None for a bearer token, and where its master key is gone.

    `living` says whether all that it hangs on lives; its time is for the caller to judge. `others` are the keys of
    its client's newest other tokens, with the times when they were issued.
    """

    token_type: TokenType
    client_id: str
    key: bytes | None = field(repr=False)
    algorithm: MacAlgorithm | None
    drafts: tuple[MacDraft, ...]
    expires_at: datetime
    revoked_at: datetime | None
    living: bool
    others: tuple[tuple[datetime, bytes], ...] = field(repr=False)


class SigningTokens(Base):
    """What signatures are made with."""

    async def signing_token(self, token: str) -> SigningToken | None:
        """An access token by what the client presents; None if it is unknown."""
        hashed = digest(token)
        row = await self._database.row("signing_token_find", digest=hashed)
        if row is None:
            return None
        others = await self._database.rows(
            "signing_tokens_of_client", client_id=row["client_id"], digest=hashed, most=_OTHERS
        )
        keys = ((other["issued_at"], self._key_of(other)) for other in others)
        return SigningToken(
            token_type=row["token_type"],
            client_id=row["client_id"],
            key=self._key_of(row),
            algorithm=row["mac_algorithm"],
            drafts=tuple(row["mac_drafts"]),
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            living=row["living"],
            others=tuple((issued_at, key) for issued_at, key in keys if key is not None),
        )

    def _key_of(self, row: Row) -> bytes | None:
        if row["mac_key"] is None:
            return None
        try:
            return self._keyring.unseal(MAC_KEY, row["digest"].hex(), row["mac_key"])
        except UnsealError:
            return None
