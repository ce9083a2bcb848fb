"""The tier that machines share: Redis or Valkey, and the leases by which one machine at a time loads a key.

Decides what is asked of the server and what of its answers is believed. Every operation is one script call; a lookup
asks a near server for the entry first. No caller's cancellation reaches either (see `_redis_batches.py`). Must never
retry, never raise anything but StoreError for what goes wrong there, and never show a password.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import math
from binascii import hexlify
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from glasscache._clock import SystemClock
from glasscache._entry import Entry, Key
from glasscache._events import SpanRef
from glasscache._lease import Claim, Holder, Lease, Lookup
from glasscache.errors import ConfigurationError, GlasscacheError, StoreError, UnstorableError
from glasscache.interfaces import Clock, Told
from glasscache.policy import answers
from glasscache.stores import _redis_lua as lua
from glasscache.stores._bells import KeyBell
from glasscache.stores._envelope import Envelope, EnvelopeError
from glasscache.stores._machine import Machine
from glasscache.stores._redis_backplane import RedisBackplane
from glasscache.stores._redis_batches import Batches
from glasscache.stores._redis_bells import RedisBells
from glasscache.stores._redis_calls import Calls, plainly
from glasscache.stores._redis_clients import Client, ClientOptions, Clients, clients_from, clients_of
from glasscache.stores._redis_glance import PEEK, Glances
from glasscache.stores._redis_line import failure
from glasscache.stores._redis_memo import Memo
from glasscache.stores._redis_scripts import Script
from glasscache.stores._redis_values import LARGE, Values, milliseconds, off_loop
from glasscache.stores._rejects import Rejects
from glasscache.stores._traceparent import from_traceparent, to_traceparent

T = TypeVar("T")

_CLOSE_TIMEOUT = 1.0


def _nobody(tier: str) -> None:
    """Told of what was rejected, where nobody else is."""


class RedisStore:
    """Answers from Redis or Valkey: one server, Sentinel or Cluster (redis-py 8.1 or later).

    `client`: of `redis.asyncio`, your own, without retries; or use `from_url`. `prefix`: of all keys and channels; one
    for all machines of one application. `lease_seconds`: how long the right to load lasts unless it is renewed, and so
    how long a machine that dies holds up the others. `max_ttl`: seconds that anything is kept, stale or not; None: as
    long as it lives. `secrets`: encrypt what is stored (32 characters or more each; the first writes, all read).
    `compression`: zstd, zlib or none. `max_entry_bytes`: of the largest entry; None: as its cache has it
    (`Limits.max_entry_bytes`). `max_connections`: at once, of this process. `memo_bytes`: of what it has read
    lately, kept to be spared the work of opening the same again; 0: none. Raises ConfigurationError for values that
    cannot work.
    """

    name = "redis"

    def __init__(
        self,
        client: Client | Clients,
        *,
        prefix: str = "glasscache",
        lease_seconds: float = 5.0,
        max_ttl: float | None = None,
        secrets: Sequence[str] = (),
        compression: str = "zstd",
        max_entry_bytes: int | None = None,
        max_connections: int = 16,
        memo_bytes: int = 8 * 1024**2,
        clock: Clock | None = None,
    ) -> None:
        if not prefix or set(prefix) & set("{}"):
            raise ConfigurationError(f"RedisStore(prefix={prefix!r}): give some characters, without braces")
        if not 0.05 <= lease_seconds < math.inf:
            raise ConfigurationError(f"RedisStore(lease_seconds={lease_seconds!r}): give 0.05 seconds or more")
        if max_ttl is not None and not 0.001 <= max_ttl < math.inf:
            raise ConfigurationError(f"RedisStore(max_ttl={max_ttl!r}): give 0.001 seconds or more, or None")
        room: object = memo_bytes
        if isinstance(room, bool) or not isinstance(room, int) or room < 0:
            raise ConfigurationError(f"RedisStore(memo_bytes={memo_bytes!r}): give a whole number, or 0 for none")
        self._clients = client if isinstance(client, Clients) else clients_from(client)
        self._prefix = prefix
        self._lease = lease_seconds
        envelope = Envelope(secrets=secrets, compression=compression, max_size=max_entry_bytes)
        self.fit: Callable[[int], None] = envelope.fit
        """A cache says how many bytes its largest entry may have."""
        self._now = (SystemClock() if clock is None else clock).now
        self._values = Values(envelope, self._now, math.inf if max_ttl is None else max_ttl, Memo(memo_bytes))
        self._batches = Batches(self._clients, max_connections, self._context_of_nobody)
        self._large = Calls()
        self._stem = f"{prefix}:{{".encode()
        self._glances = Glances(
            self._stem, self._values, self._now, lambda opening: self._large.soon(opening, self._context_of_nobody())
        )
        self._rejects = Rejects(repr(self), self._now)
        self.told_rejected: Callable[[str], None] = _nobody
        """Called with the name of the tier whenever there were some."""
        self._wake = f"{prefix}:wake:".encode()
        self.backplane: RedisBackplane = RedisBackplane(self._clients, machine="", prefix=prefix, clock=clock)
        """Invalidations between the machines that use this prefix."""
        self._machine = Machine(self._named)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        max_connections: int = 16,
        connect_timeout: float = 0.25,
        timeout: float = 0.25,
        protocol: int = 3,
        **options: Any,
    ) -> RedisStore:
        """By a URL: redis, rediss (TLS), unix, redis+sentinel://host1,host2/service, redis+cluster://host1,host2.

        User, password, database and TLS files come from the URL (`?ssl_ca_certs=...`). `connect_timeout`, `timeout`:
        seconds, of one connection and of one command. `options`: see the class.
        """
        choices = ClientOptions(
            connect_timeout=connect_timeout, timeout=timeout, max_connections=max_connections, protocol=protocol
        )
        return cls(clients_of(url, choices), max_connections=max_connections, **options)

    def _named(self, name: str) -> None:
        """The child of a fork is a machine of its own, which hears its parent and its siblings."""
        self.machine: str = name
        """Tells this process from all others."""
        self._name = name.encode()
        self._bells = RedisBells(self._clients, f"{self._prefix}:wake:{name}")
        self.backplane.machine = name

    def _context_of_nobody(self) -> contextvars.Context:
        return self.backplane.context.copy()

    @property
    def rejected(self) -> Counter[str]:
        """Stored bytes that were not an entry under their key, by reason."""
        return self._rejects.counts

    def __repr__(self) -> str:
        return f"<RedisStore {self._clients.where} prefix={self._prefix!r}>"

    # --- as a store -------------------------------------------------------------------------------------------------

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        return await plainly(self._get(key))

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry, in place of any other under `key`."""
        await self._run_whole(self._set(key, entry), entry)

    async def delete(self, key: Key) -> None:
        """Remove the entry and end its lease: what is being loaded is not kept."""
        await plainly(self._run(lua.DELETE, key, self._wake, key))

    async def aclose(self) -> None:
        """Listen no more, let operations end for 1 s, close the client that was made from a URL."""
        await self._bells.aclose()
        await self._large.aclose(_CLOSE_TIMEOUT)
        await self._batches.aclose(_CLOSE_TIMEOUT)
        await self._clients.aclose()

    # --- leases -----------------------------------------------------------------------------------------------------

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it: in one round trip; where those are short, in a second one what a
        script has to decide.
        """
        try:
            if self._glances.is_likely and (server := self._batches.near(key)) is not None:
                entry = await self._glances.found(server, key)
                if entry is not None and entry.number >= claim.newer_than and answers(entry, claim, self._now()):
                    return Lookup(entry=entry)
            look = await self._claim(key, claim)
            self._glances.is_likely = look.entry is not None
            return look
        except GlasscacheError:
            raise
        except Exception as error:
            raise failure(error) from error

    def glance(self, key: Key, then: Told) -> bool:
        """Ask for the entry alone, if the server is near and the last lookup found something."""
        glances = self._glances
        if not glances.is_likely or (server := self._batches.near(key)) is None:
            return False
        glances.ask(server, key, then)
        return True

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for `lease.seconds` from now; False: it is lost."""
        lasts = milliseconds(lease.seconds)
        return bool(await plainly(self._run(lua.RENEW, key, b"%d" % lease.token, lasts)) == 1)

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry, give the lease back and wake who waits; None: the lease is lost."""
        return await self._run_whole(self._commit(key, lease, entry), entry)

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back without an answer, and wake who waits."""
        return await plainly(self._release(key, lease, refuse_for))

    def listen(self, key: Key) -> KeyBell:
        """A bell that rings when another machine lets go of `key`."""
        return self._bells.bell(key)

    async def _run_whole(self, operation: Coroutine[Any, Any, T], entry: Entry) -> T:
        """A large entry is packed before it is sent: nobody's cancellation may fall between the two."""
        return await (self._large.run(operation) if entry.size > LARGE else plainly(operation))

    # --- one script each --------------------------------------------------------------------------------------------

    def _run(self, script: Script, key: Key, *arguments: bytes) -> asyncio.Future[Any]:
        name = b"%b%b}:" % (self._stem, hexlify(key))
        return self._batches.call(script, (name + b"e", name + b"l", name + b"q", name + b"r"), arguments)

    async def _get(self, key: Key) -> Entry | None:
        """Without a script: most lookups find what answers them, and a script takes a server much longer."""
        asked = self._now()
        try:
            left, value = await self._batches.call(PEEK, (self._glances.name(key),), ())
        except StoreError as error:
            if not isinstance(error.__cause__, ResponseError):
                raise
            left, value = -1, b""
        if value is not None and left < 0:  # it has just come, or it is not ours: the script removes what is in the way
            value, left = await self._run(lua.GET, key)
        return None if value is None else await self._open(key, value, left, asked)

    async def _set(self, key: Key, entry: Entry) -> None:
        packed = await off_loop(entry.size, self._values.pack, key, entry)
        if packed is not None:
            await self._run(lua.SET, key, *packed)

    async def _claim(self, key: Key, claim: Claim) -> Lookup:
        arguments = (
            b"%d" % claim.refreshes,
            milliseconds(claim.fresh_for),
            b"%d" % claim.waits,
            b"%d" % claim.number,
            b"%d" % claim.newer_than,
            b"%d" % claim.reclaims,
            self._name,
            to_traceparent(claim.ref).encode(),
            milliseconds(self._lease),
        )
        asked = self._now()
        word, value, left, *rest = await self._run(lua.LOOK, key, *arguments)
        entry = None if value is None else await self._open(key, value, left, asked)
        if entry is None and word == b"entry":
            word, _, _, *rest = await self._run(lua.LOOK, key, *arguments)  # what was there has been deleted
        match word, rest:
            case b"entry", []:
                return Lookup(entry=entry)
            case b"refused", []:
                return Lookup(entry=entry, refused=True)
            case b"held", [bytes(held), int(remaining), int(position), bytes(now)]:
                self._bells.start()
                return Lookup(entry=entry, holder=_holder(held, remaining, position, int(now)))
            case b"granted", [bytes(token)]:
                return Lookup(entry=entry, lease=Lease(token=int(token), seconds=self._lease))
        raise StoreError(f"an answer that means nothing: {word!r}")

    async def _commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        try:
            packed = await off_loop(entry.size, self._values.pack, key, entry)
        except UnstorableError:
            await self._release(key, lease, 0.0)
            raise
        if packed is None:
            return await self._release(key, lease, 0.0)
        done, *told = await self._run(lua.COMMIT, key, b"%d" % lease.token, self._wake, key, *packed)
        if done == -1:
            raise StoreError(f"not kept: {told[0].decode(errors='replace')}")
        return _refs(told) if done == 1 else None

    async def _release(self, key: Key, lease: Lease, refuse_for: float) -> tuple[SpanRef, ...]:
        refused = milliseconds(refuse_for)
        return _refs(await self._run(lua.RELEASE, key, b"%d" % lease.token, self._wake, key, refused))

    # --- bytes ------------------------------------------------------------------------------------------------------

    async def _open(self, key: Key, value: bytes, left: int, now: float) -> Entry | None:
        """The entry, of which `left` was left at `now`; None for bytes that are none: they are deleted, and counted."""
        known = self._values.known(key, value, left, now)
        if known is not None:
            return known
        try:
            if len(value) > LARGE:
                return await asyncio.to_thread(self._values.unpack, key, value, left, now)
            return self._values.unpack(key, value, left, now)
        except EnvelopeError as error:
            self.told_rejected(self.name)
            self._rejects.meet(key, error)
            digest = hashlib.sha1(value, usedforsecurity=False).hexdigest().encode()  # what Redis can compute, too
            await self._run(lua.REJECT, key, digest)
            return None


def _refs(told: Sequence[bytes]) -> tuple[SpanRef, ...]:
    refs = (from_traceparent(trace.decode(errors="replace")) for trace in told)
    return tuple(ref for ref in refs if ref is not None)


def _holder(lease: bytes, remaining: int, position: int, now: int) -> Holder:
    token, trace, machine, acquired, _ = lease.decode(errors="replace").split("|")
    return Holder(
        token=int(token),
        machine=machine,
        ref=from_traceparent(trace),
        elapsed=max(0.0, (now - int(acquired)) / 1e6),
        remaining=max(0.0, remaining / 1000),
        position=position,
    )
