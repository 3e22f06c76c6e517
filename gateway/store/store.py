"""The store: every read and write that Gateway makes, one method a transaction.

    store.tokens.redeem(…)    store.clients.find(…)    store.nonces.spend(…)

Each part stands in a file of its own, and has of the connections, the time and the keys what it needs.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final, Self

import asyncpg

from gateway.config import Tokens as Lifetimes
from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.faults import FaultyConfiguration
from gateway.figures import DATABASE_CONNECTIONS, DATABASE_WAITING
from gateway.store.access_tokens import LANES, AccessTokens
from gateway.store.acting import Recorder
from gateway.store.chain import BrokenChain, Chain
from gateway.store.changes import ChangeLog
from gateway.store.clients import Clients
from gateway.store.clock import Clock, Now
from gateway.store.database import Database, Server, cannot_reach
from gateway.store.devices import Devices
from gateway.store.events import Events
from gateway.store.flows import Flows
from gateway.store.grants import Grants
from gateway.store.guesses import WAIT, Guesses
from gateway.store.limits import RouteLimits
from gateway.store.logouts import Logouts
from gateway.store.master_keys import MasterKeys
from gateway.store.migrations import require_current, require_server
from gateway.store.nonces import MOST, NonceLayouts, Nonces
from gateway.store.poolers import require_settings
from gateway.store.pushed import PushedRequests
from gateway.store.registrations import Registrations
from gateway.store.replicas import Replicas
from gateway.store.scopes import Scopes
from gateway.store.sessions import Sessions
from gateway.store.signing_keys import SigningKeys
from gateway.store.tally import Tally
from gateway.store.tokens import Tokens
from gateway.store.upkeep import Upkeep
from gateway.store.users import Users
from gateway.store.uses import Holdings
from gateway.store.visits import Visits


class Store:
    """The one door to the database. What is asked of it or its parts raises StoreUnavailable when no answer came in
    time. `lookups` and `spends` are connections that nothing but the lookup of many tokens, and nothing but nonces,
    uses."""

    def __init__(
        self,
        server: Server,
        database: Database,
        lookups: Database,
        spends: Database,
        keyring: Keyring,
        lifetimes: Lifetimes,
        clock: Clock,
        recorder: Recorder,
        replicas: Replicas | None = None,
        further: Sequence[Database] = (),
        issuer: str = "",
    ) -> None:
        self._server, self._database, self._lookups, self._spends = server, database, lookups, spends
        self._replicas, self._further = replicas, further
        self._keyring = keyring
        self._tally = Tally(database, clock, timedelta(seconds=WAIT), recorder)
        self.recorder: Final = recorder
        self.now: Final[Now] = clock  # the time that it compares with; does not go back, nor leap ahead by itself
        self.seconds: Final = clock.seconds  # the same since 1970
        self.users: Final = Users(database, clock, keyring)
        self.sessions: Final = Sessions(database, lookups, clock)
        self.visits: Final = Visits(database, clock)
        self.guesses: Final = Guesses(self._tally, keyring)
        self.clients: Final = Clients(database, clock, self._tally)
        self.registrations: Final = Registrations(database, clock)
        self.scopes: Final = Scopes(database, clock)
        self.flows: Final = Flows(database, clock, keyring)
        self.devices: Final = Devices(database, clock, keyring)
        self.pushed: Final = PushedRequests(database, clock, keyring)
        self.grants: Final = Grants(database, clock)
        self.logouts: Final = Logouts(database, clock)
        self.signing_keys: Final = SigningKeys(database, clock, keyring)
        self.tokens: Final = Tokens(database, clock, keyring, lifetimes, self.signing_keys, issuer)
        self.access_tokens: Final = AccessTokens(database, lookups, clock, keyring, replicas)
        self.nonces: Final = Nonces(spends)
        self.further_nonces: Final = [Nonces(other) for other in further]
        self.nonce_layouts: Final = NonceLayouts(spends)
        self.changes: Final = ChangeLog(server, clock)
        self.master_keys: Final = MasterKeys(database, clock, keyring)
        self.events: Final = Events(database)
        self.holdings: Final = Holdings(database, clock)
        self.limits: Final = RouteLimits(database)
        self.chain: Final = Chain(database, clock, keyring, recorder)
        self.upkeep: Final = Upkeep(database, clock, self.chain)

    @classmethod
    async def open(
        cls,
        dsn: str,
        keyring: Keyring,
        *,
        size: int = 10,
        name: str = "gateway-pool",
        tokens: Lifetimes | None = None,
        clock: Clock | None = None,
        issuer: str = "",
    ) -> Self:
        """A store on at most `size` connections, which an operator sees by `name` as their application_name.

        `tokens` holds the lifetimes and forms of what is issued, `issuer` by whom. Raises OperatorError when the
        database cannot be reached or used, is not migrated, is of another version, or was written with another master
        key.
        """
        store = cls.over(dsn, keyring, size=size, name=name, tokens=tokens, clock=clock, issuer=issuer)
        try:
            await cls._connect_first(store, name)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as exc:
            raise cannot_reach(dsn, exc) from exc
        try:
            await store.upkeep.compare_clocks()
            await cls._require_key(store)
        except StoreUnavailable as exc:
            raise cannot_reach(dsn, exc.__cause__ or exc) from exc
        return store

    @classmethod
    def over(
        cls,
        dsn: str,
        keyring: Keyring,
        *,
        size: int = 10,
        name: str = "gateway-pool",
        tokens: Lifetimes | None = None,
        clock: Clock | None = None,
        replicas: Sequence[str] = (),
        nonces: Sequence[str] = (),
        issuer: str = "",
    ) -> Self:
        """The store that `open` gives, without asking the database anything: for a worker, which must come up while
        the database is down, and whose supervisor has asked. `replicas` are standbys that look-ups ask first, `nonces`
        further databases that nonces are spread over."""
        server = Server(dsn)
        recorder = Recorder(keyring)
        pool = Database(partial(server.connect, name), size, recorder)
        lookups = Database(partial(server.connect, "gateway-lookups"), LANES)
        spends = Database(partial(server.connect, "gateway-nonces"), MOST)
        near = Replicas(replicas) if replicas else None
        others = (Server(other).connect for other in nonces)
        further = [Database(partial(connect_one, "gateway-nonces"), MOST) for connect_one in others]
        return cls(
            server,
            pool,
            lookups,
            spends,
            keyring,
            tokens or Lifetimes(),
            clock or Clock(),
            recorder,
            near,
            further,
            issuer,
        )

    async def close(self) -> None:
        """Write what was counted, give the events that were written their places, and end every connection."""
        await self._tally.close()
        if self.recorder.wrote.is_set():
            # Whoever comes next gives them their places, or says what is wrong.
            with suppress(StoreUnavailable, BrokenChain, asyncpg.PostgresError):
                await self.chain.extend()
        if self._replicas is not None:
            await self._replicas.close()
        pools = self._database, self._lookups, self._spends, *self._further
        await asyncio.gather(*(pool.close() for pool in pools))

    def report(self) -> None:
        """Say in the figures how many connections there are, and who waits for one."""
        pools = self._database, self._lookups, self._spends, *self._further
        DATABASE_CONNECTIONS.set(sum(pool.lent for pool in pools), "used")
        DATABASE_CONNECTIONS.set(sum(pool.idle for pool in pools), "idle")
        DATABASE_WAITING.set(sum(pool.waiting for pool in pools))

    async def ping(self) -> None:
        """Pass when the database answers."""
        await self._database.value("ping")

    async def _connect_first(self, name: str) -> None:
        """Look at the server and its schema, by the connection that is lent first."""
        connection = await self._server.connect(name)
        try:
            require_server(connection)
            await require_current(connection)
            await require_settings(connection)
        except BaseException:
            await connection.close(timeout=1)
            raise
        self._database.adopt(connection)

    async def _require_key(self) -> None:
        """The data's sealed keys and keyed checks are worth nothing under another master key."""
        written = await self._database.value("master_key_find")
        if written is None:
            await self._database.row("master_key_note", key_id=self._keyring.key_id)
            written = await self._database.value("master_key_find")
        if written not in self._keyring.key_ids:
            await self.close()
            raise FaultyConfiguration(
                f"keys.master: the key {self._keyring.key_id.hex()} does not fit the data, which was written with the "
                f"key {written.hex()}; restore that key, or list it under keys.previous"
            )
