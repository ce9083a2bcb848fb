"""Entries as bytes, for every store outside of this process.

Decides the format (docs/format.md) and what of it is believed: nothing that is not whole, of a known version, made for
this very key, and within bounds. Times go as lifetimes, never as dates: how much is left is what the store says.
Must never run what it reads, and never take more memory than twice the largest entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Literal, TypeAlias
from zlib import crc32

import msgspec

from glasscache._entry import Entry, Key, entry_of
from glasscache.errors import StoreError, UnstorableError
from glasscache.stores._compression import CODES, TooLarge, compressor, decompressor
from glasscache.stores._sealing import Sealer

MAGIC = b"GC"
VERSION = 2
_SEALED = 0x80  # a flag beside the code of the compression
_HEAD = len(MAGIC) + 2
_SUM = 4
_WHOLE = 0x2144DF1C
"""The CRC-32 of whatever its own CRC-32 stands behind, lowest byte first."""
_MAX_SIZE = 8 * 1024**2
_SPARE = 64 * 1024
"""Bytes that a plain envelope may have beyond the largest entry: names, tags, lifetimes."""

Reason: TypeAlias = Literal["foreign", "version", "truncated", "checksum", "sealed", "bomb", "shape", "key", "time"]

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class EnvelopeError(StoreError):
    """Bytes that are not an entry of ours under this key. `reason` says in one word why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"not an entry under this key: {reason}")
        self.reason: Reason = reason


class _Content(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Version 2. New fields come at the end, with a default, or with a new version."""

    key: bytes
    chunks: tuple[bytes, ...]
    status: Annotated[int, msgspec.Meta(ge=0, le=999)]
    headers: tuple[tuple[bytes, bytes], ...]
    vary: tuple[bytes, ...]
    tags: tuple[str, ...]
    lifetime: _Seconds
    """From its age of 0 to the end of its freshness."""
    unsettled: _Seconds
    """How long before that end an early refresh may begin: infinite, if a hit always needs a second thought."""
    stale_while_revalidate: _Seconds
    stale_if_error: _Seconds
    cost: _Seconds
    price: float
    number: Annotated[int, msgspec.Meta(ge=0)]
    kept: _Seconds
    stale_if_unreachable: bool
    left: _Seconds
    """Of its life, stale or not, when it was sealed."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


class Envelope:
    """Entries to bytes and back.

    `secrets`: each of 32 characters or more; the first one encrypts, all decrypt, and what is not encrypted is then
    refused. `compression`: zstd, zlib or none, for what has `compress_above` bytes and gets smaller. `max_size`: bytes
    of the largest entry that is believed; None: see `fit`. Raises ConfigurationError for values that cannot work.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[str] = (),
        compression: str = "zstd",
        compress_above: int = 1024,
        max_size: int | None = None,
    ) -> None:
        self._sealer = Sealer(secrets) if secrets else None
        self._compress = compressor(compression)
        self._code = CODES[compression]
        self._compress_above = compress_above
        self._is_fixed, self._fitted = max_size is not None, 0
        self._max_size = (_MAX_SIZE if max_size is None else max_size) + _SPARE
        flag = 0 if self._sealer is None else _SEALED
        self._heads = {MAGIC + bytes((VERSION, code | flag)): decompressor(code) for code in range(_SEALED)}
        """What an envelope may begin with, and how it is then compressed."""

    def fit(self, largest: int) -> None:
        """Believe entries of so many bytes, unless a size was given: of several caches, those of the largest."""
        self._fitted = max(self._fitted, largest)
        if not self._is_fixed:
            self._max_size = self._fitted + _SPARE

    def seal(self, key: Key, entry: Entry, *, left: float = math.inf) -> bytes:
        """The bytes of an entry that is kept under `key`, for `left` seconds from now at most.

        UnstorableError for one that is too large, or has no end.
        """
        lifetime, window = entry.fresh_until - entry.born, entry.window
        if not (0 <= lifetime < math.inf and window < math.inf):
            raise UnstorableError(
                f"an entry whose times are {lifetime} and {window} s cannot be stored outside of this process"
            )
        content = _Content(
            key=key,
            chunks=entry.chunks,
            status=entry.status,
            headers=entry.headers,
            vary=entry.vary,
            tags=entry.tags,
            lifetime=lifetime,
            unsettled=max(entry.fresh_until - entry.settled_until, 0.0),
            stale_while_revalidate=entry.stale_while_revalidate,
            stale_if_error=entry.stale_if_error,
            cost=entry.cost,
            price=entry.price,
            number=entry.number,
            kept=entry.kept,
            stale_if_unreachable=entry.stale_if_unreachable,
            left=min(lifetime + window, left),
        )
        data, code = _encode(content), CODES["none"]
        if len(data) > self._max_size:
            raise UnstorableError(f"an entry of {len(data)} bytes is larger than this store keeps ({self._max_size})")
        if len(data) > self._compress_above and len(smaller := self._compress(data)) < len(data):
            data, code = smaller, self._code
        if self._sealer is not None:
            head = MAGIC + bytes((VERSION, code | _SEALED))
            return head + self._sealer.seal(data, head + key)
        return _with_sum(MAGIC + bytes((VERSION, code)) + data)

    def open(self, key: Key, data: bytes, now: float, remaining: float) -> Entry:
        """The entry that will be dead, stale or not, `remaining` seconds after `now`. EnvelopeError for anything else
        than what was sealed under this key.
        """
        decompress = self._heads.get(data[:_HEAD])
        if decompress is None or len(data) > 2 * self._max_size:
            raise EnvelopeError(self._why_not(data[:_HEAD], len(data)))
        if self._sealer is not None:
            inside = _unsealed(self._sealer, key, data)
        elif crc32(data) == _WHOLE:
            inside = data[_HEAD:-_SUM]
        else:
            raise EnvelopeError("checksum")
        try:
            content = _decode(decompress(inside, self._max_size))
        except (msgspec.MsgspecError, ValueError) as error:
            raise EnvelopeError("bomb" if type(error) is TooLarge else "shape") from None
        if content.key != key:
            raise EnvelopeError("key")
        lifetime, cost, price = content.lifetime, content.cost, content.price
        while_revalidate, if_error, kept = content.stale_while_revalidate, content.stale_if_error, content.kept
        window = while_revalidate if while_revalidate > if_error else if_error  # to call max() takes longer
        if kept > window:
            window = kept
        # whatever the store says: never longer than it was meant to live
        left = content.left if content.left < remaining else remaining
        if not (left >= 0 and isfinite(left + lifetime + window + cost + price)):
            raise EnvelopeError("time")
        fresh_until = now + left - window
        return entry_of(  # in order: with names it takes twice as long
            content.chunks,
            fresh_until - lifetime,
            fresh_until,
            fresh_until - content.unsettled,
            content.status,
            content.headers,
            content.vary,
            content.tags,
            while_revalidate,
            if_error,
            kept,
            content.stale_if_unreachable,
            cost,
            price,
            content.number,
        )

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


def _with_sum(data: bytes) -> bytes:
    """A guard against what breaks by itself: who means to change something has to be kept out by secrets."""
    return data + crc32(data).to_bytes(_SUM, "little")


def _unsealed(sealer: Sealer, key: Key, data: bytes) -> bytes:
    try:
        return sealer.open(data[_HEAD:], data[:_HEAD] + key)
    except ValueError:
        raise EnvelopeError("sealed") from None
