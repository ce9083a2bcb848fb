"""Entries as bytes, for every store outside of this process.

Decides the format (docs/format.md) and what of it is believed: nothing that is not whole, of a known version, made for
this very key, and within bounds. Times go as lifetimes, never as dates: how much is left is what the store says.
Must never run what it reads, and never take more memory than twice the largest entry.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from glasscache._entry import Entry, Key, entry_of
from glasscache.errors import StoreError, UnstorableError
from glasscache.stores._compression import CODES, TooLarge, compressor, decompress
from glasscache.stores._sealing import Sealer

MAGIC = b"GC"
VERSION = 1
_SEALED = 0x80  # a flag beside the code of the compression
_HEAD = len(MAGIC) + 2
_SUM = 8
_SPARE = 64 * 1024
"""Bytes that a plain envelope may have beyond the largest entry: names, tags, lifetimes."""

Reason: TypeAlias = Literal["foreign", "version", "truncated", "checksum", "sealed", "bomb", "shape", "key", "time"]

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class EnvelopeError(StoreError):
    """Bytes that are not an entry of ours under this key. `reason` says in one word why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"not an entry under this key: {reason}")
        self.reason: Reason = reason


class _Content(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Version 1. New fields come at the end, with a default, or with a new version."""

    key: bytes
    chunks: tuple[bytes, ...]
    status: Annotated[int, msgspec.Meta(ge=0, le=999)]
    headers: tuple[tuple[bytes, bytes], ...]
    vary: tuple[bytes, ...]
    tags: tuple[str, ...]
    lifetime: _Seconds
    """From its age of 0 to the end of its freshness."""
    unsettled: _Seconds
    """How long before that end an early refresh may begin."""
    stale_while_revalidate: _Seconds
    stale_if_error: _Seconds
    cost: _Seconds
    price: float
    number: Annotated[int, msgspec.Meta(ge=0)]
    kept: _Seconds = 0.0
    stale_if_unreachable: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


class Envelope:
    """Entries to bytes and back.

    `secrets`: each of 32 characters or more; the first one encrypts, all decrypt, and what is not encrypted is then
    refused. `compression`: zstd, zlib or none, for what has `compress_above` bytes and gets smaller. `max_size`: bytes
    of the largest entry that is believed. Raises ConfigurationError for values that cannot work.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[str] = (),
        compression: str = "zstd",
        compress_above: int = 1024,
        max_size: int = 8 * 1024**2,
    ) -> None:
        self._sealer = Sealer(secrets)
        self._compress = compressor(compression)
        self._code = CODES[compression]
        self._compress_above = compress_above
        self._max_size = max_size + _SPARE
        flag = _SEALED if self._sealer else 0
        self._heads = {MAGIC + bytes((VERSION, code | flag)): code for code in range(_SEALED)}
        """What an envelope may begin with, and how it is then compressed."""

    def seal(self, key: Key, entry: Entry) -> bytes:
        """The bytes of an entry that is kept under `key`. UnstorableError for one that is too large, or has no end."""
        content = _Content(
            key=key,
            chunks=entry.chunks,
            status=entry.status,
            headers=entry.headers,
            vary=entry.vary,
            tags=entry.tags,
            lifetime=entry.fresh_until - entry.born,
            unsettled=max(entry.fresh_until - entry.settled_until, 0.0),
            stale_while_revalidate=entry.stale_while_revalidate,
            stale_if_error=entry.stale_if_error,
            cost=entry.cost,
            price=entry.price,
            number=entry.number,
            kept=entry.kept,
            stale_if_unreachable=entry.stale_if_unreachable,
        )
        times = (content.lifetime, entry.window)
        if not all(0 <= time < math.inf for time in times):
            raise UnstorableError(f"an entry whose times are {times} s cannot be stored outside of this process")
        data, code = _encode(content), CODES["none"]
        if len(data) > self._max_size:
            raise UnstorableError(f"an entry of {len(data)} bytes is larger than this store keeps ({self._max_size})")
        if len(data) > self._compress_above and len(smaller := self._compress(data)) < len(data):
            data, code = smaller, self._code
        if self._sealer:
            head = MAGIC + bytes((VERSION, code | _SEALED))
            return head + self._sealer.seal(data, head + key)
        head = MAGIC + bytes((VERSION, code))
        return head + _checksum(head, key, data) + data

    def open(self, key: Key, data: bytes, *, now: float, remaining: float) -> Entry:
        """The entry that will be dead, stale or not, `remaining` seconds after `now`. EnvelopeError for anything else
        than what was sealed under this key.
        """
        code, inside = self._unseal(key, data)
        try:
            content = _decode(decompress(code, inside, self._max_size))
        except TooLarge:
            raise EnvelopeError("bomb") from None
        except (msgspec.MsgspecError, ValueError):
            raise EnvelopeError("shape") from None
        if content.key != key:
            raise EnvelopeError("key")
        window = max(content.stale_while_revalidate, content.stale_if_error, content.kept)
        # whatever the store says: never longer than it was meant to live
        left = min(remaining, content.lifetime + window)
        if not (0 <= left < math.inf and math.isfinite(content.price) and math.isfinite(content.cost)):
            raise EnvelopeError("time")
        fresh_until = now + left - window
        return entry_of(
            chunks=content.chunks,
            status=content.status,
            headers=content.headers,
            vary=content.vary,
            tags=content.tags,
            born=fresh_until - content.lifetime,
            fresh_until=fresh_until,
            settled_until=fresh_until - content.unsettled,
            stale_while_revalidate=content.stale_while_revalidate,
            stale_if_error=content.stale_if_error,
            cost=content.cost,
            price=content.price,
            number=content.number,
            kept=content.kept,
            stale_if_unreachable=content.stale_if_unreachable,
        )

    def _unseal(self, key: Key, data: bytes) -> tuple[int, bytes]:
        """The code of the compression, and what is inside."""
        head = data[:_HEAD]
        code = self._heads.get(head)
        if code is None or len(data) > 2 * self._max_size:
            raise EnvelopeError(self._why_not(head, len(data)))
        if self._sealer:
            try:
                return code, self._sealer.open(data[_HEAD:], head + key)
            except ValueError:
                raise EnvelopeError("sealed") from None
        inside = data[_HEAD + _SUM :]
        if data[_HEAD : _HEAD + _SUM] != _checksum(head, key, inside):
            raise EnvelopeError("checksum")
        return code, inside

    def _why_not(self, head: bytes, size: int) -> Reason:
        if size > 2 * self._max_size:
            return "bomb"
        if head[: len(MAGIC)] != MAGIC:
            return "foreign"
        if len(head) < _HEAD:
            return "truncated"
        if head[-2] != VERSION:
            return "version"
        return "sealed"


def _checksum(head: bytes, key: Key, data: bytes) -> bytes:
    """Of the bytes and the key: an entry that was moved to another key is not believed either."""
    state = hashlib.blake2b(head, digest_size=_SUM, key=key[:64])
    state.update(data)
    return state.digest()
