"""Raw asyncpg over Postgres, the only shared state: one method is one transaction, visible and whole.

SQL stands in `sql/queries/*.sql`, named and described there and called here by its name.
"""

from gateway.store.access_tokens import EndedToken, FoundTokens
from gateway.store.changes import ChangeFeed, Reading
from gateway.store.clock import Clock
from gateway.store.faults import Conflict
from gateway.store.nonces import FoundTerms, NonceTerms
from gateway.store.records import Flow, IssuedTokens, NewClient, SignInCandidate, Unauthenticated
from gateway.store.store import Store

__all__ = [
    "ChangeFeed",
    "Clock",
    "Conflict",
    "EndedToken",
    "Flow",
    "FoundTerms",
    "FoundTokens",
    "IssuedTokens",
    "NewClient",
    "NonceTerms",
    "Reading",
    "SignInCandidate",
    "Store",
    "Unauthenticated",
]
