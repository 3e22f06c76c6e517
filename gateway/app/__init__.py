"""The processes that serve: the composition root of each plane, and what both kinds have in common.

    inherited TCP socket  → access: Proxy ── routes ─────→ upstreams         asked: Guard → Store
                                          └─ our own paths ┐
    inherited unix socket → authorization: aiohttp (gateway.web) → Store ←───┘

Each kind loads its own plane only (`gateway.worker`): what checks tokens stays small and is never held up by a page,
and what hashes passwords and draws pages has a place of its own.
"""
