"""Raw asyncpg over Postgres, the only shared state: one method is one transaction, visible and whole.

SQL stands in `sql/queries/*.sql`, named and described there and called here by its name.
"""

from gateway.store.records import (
    CodeRecord,
    Flow,
    FlowRequest,
    IssuedTokens,
    NewClient,
    RefreshRecord,
    SignInCandidate,
)
from gateway.store.store import Conflict, Store

__all__ = [
    "CodeRecord",
    "Conflict",
    "Flow",
    "FlowRequest",
    "IssuedTokens",
    "NewClient",
    "RefreshRecord",
    "SignInCandidate",
    "Store",
]
