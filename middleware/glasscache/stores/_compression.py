"""Bytes made smaller, and plain again within bounds that whoever wrote them cannot move.

Decides how much memory a compressed entry may take: its plain size is never believed, only counted while it comes out.
"""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

from glasscache.errors import ConfigurationError

try:
    import zstandard
except ImportError:  # pragma: no cover - the tests run with the extra; test_envelope.py hides it for one test
    zstandard = None  # type: ignore[assignment]

_NONE, _ZLIB, _ZSTD = 0, 1, 2
CODES: dict[str, int] = {"none": _NONE, "zlib": _ZLIB, "zstd": _ZSTD}

_ZSTD_LEVEL = 1
_ZLIB_LEVEL = 1
_MAX_WINDOW = 8 * 1024**2
"""Bytes of history that a zstd frame may ask its reader to keep (RFC 8878, section 3.1.1.1.2: allow 8 MB)."""
_STEP = 64 * 1024


Decompress: TypeAlias = Callable[[bytes, int], bytes]
"""From bytes to plain ones. TooLarge beyond so many; ValueError for what is no such stream, or not the whole of one."""


class TooLarge(ValueError):
    """More bytes than allowed."""


def best() -> str:
    """The kind that is worth most, of those that are installed."""
    return "zstd" if hasattr(zstandard, "ZstdCompressor") else "zlib"


def compressor(kind: str) -> Callable[[bytes], bytes]:
    """What makes bytes smaller. ConfigurationError for a kind that there is not, or that is not installed."""
    if kind == "none":
        return bytes
    if kind == "zlib":
        return lambda plain: zlib.compress(plain, _ZLIB_LEVEL)
    if kind != "zstd":
        raise ConfigurationError(f"compression={kind!r}: choose zstd (the default), zlib or none")
    if zstandard is None:
        raise ConfigurationError("compression='zstd' needs zstandard: pip install 'glasscache[redis]', or choose zlib")
    return _compress_zstd


def decompressor(code: int) -> Decompress:
    """What gives the plain bytes."""
    if code == _ZSTD and zstandard is not None:
        return _unzstd
    return {_NONE: _as_it_is, _ZLIB: _inflate}.get(code, _not_known)


def _as_it_is(data: bytes, most: int) -> bytes:
    return data


def _not_known(data: bytes, most: int) -> bytes:
    raise ValueError("compressed in a way that is not known here")


def _inflate(data: bytes, most: int) -> bytes:
    stream, rest = zlib.decompressobj(), data

    def read(size: int) -> bytes:
        nonlocal rest
        chunk = stream.decompress(rest, size)
        rest = stream.unconsumed_tail
        return chunk

    try:
        plain = _bounded(read, most)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise ValueError("not one whole zlib stream")
    return plain


class _Zstd(threading.local):
    """One thread's: contexts must not be shared, and to make one takes ten times as long as to use it."""

    @cached_property
    def compress(self) -> Callable[[bytes], bytes]:
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress

    @cached_property
    def decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


_zstd = _Zstd()


def _compress_zstd(plain: bytes) -> bytes:
    return _zstd.compress(plain)


def _unzstd(data: bytes, most: int) -> bytes:
    try:
        size = zstandard.frame_content_size(data)
        if 0 < size <= _STEP and size <= most:  # all that it could take is little: no steps
            return _zstd.decompressor.decompress(data, 0, False, False)  # nothing behind it; names would cost a third
        # not `max_output_size`: it is ignored where the frame itself says how large it is
        with _zstd.decompressor.stream_reader(io.BytesIO(data), closefd=False) as reader:
            plain = _bounded(reader.read, most)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if size not in (len(plain), zstandard.CONTENTSIZE_UNKNOWN):
        raise ValueError("not one whole zstd frame")
    return plain


def _bounded(read: Callable[[int], bytes], most: int) -> bytes:
    """All that `read` gives, in small steps: one large step would take memory for what never comes."""
    plain = io.BytesIO()
    while chunk := read(min(_STEP, most + 1 - plain.tell())):
        plain.write(chunk)
        if plain.tell() > most:
            raise TooLarge
    return plain.getvalue()
