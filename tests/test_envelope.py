"""Entries as bytes: what comes back, and what is refused."""

from __future__ import annotations

import base64
import json
import math
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from glasscache._entry import Entry, entry_of
from glasscache.errors import ConfigurationError, StoreError, UnstorableError
from glasscache.stores import _compression, _envelope, _sealing
from glasscache.stores._envelope import Envelope, EnvelopeError
from glasscache.testing import entry

KEY = bytes(range(16))
OLD, NEW = "an old secret that is for tests only", "a new secret that is for tests only"
FROZEN = Path(__file__).parent / "data" / "envelopes.json"


PICKLE = b"\x80\x04\x95(\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01C\x1eknowledge knowledge knowledge \x94e."
"""A list, as others store it."""
CAP = 1_000_000
"""Bytes."""


@contextmanager
def at_most_traced(size: int) -> Iterator[None]:
    """Python allocates no more than `size` bytes within, at any one time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def opened(envelope: Envelope, data: bytes, key: bytes = KEY, *, remaining: float = 300.0) -> Entry:
    return envelope.open(key, data, 1000.0, remaining)


def refused(envelope: Envelope, data: bytes, key: bytes = KEY) -> str:
    with pytest.raises(EnvelopeError) as caught:
        opened(envelope, data, key)
    return caught.value.reason


def same(found: Entry, wanted: Entry) -> None:
    for name in Entry.FIELDS:
        one, other = getattr(found, name), getattr(wanted, name)
        assert math.isclose(one, other, abs_tol=1e-6) if isinstance(other, float) else one == other, name


_bytes = st.binary(max_size=40)
_window = st.floats(0, 1e6)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    lifetime = draw(st.floats(0.001, 1e6))
    return entry_of(
        chunks=tuple(draw(st.lists(_bytes, max_size=4))),
        status=draw(st.integers(0, 999)),
        headers=tuple(draw(st.lists(st.tuples(_bytes, _bytes), max_size=4))),
        vary=tuple(draw(st.lists(_bytes, max_size=3))),
        tags=tuple(draw(st.lists(st.text(max_size=20), max_size=3))),
        born=1000.0 - draw(st.floats(0, lifetime)),
        fresh_until=1000.0 + lifetime,
        settled_until=draw(st.just(-math.inf) | st.floats(1000.0, 1000.0 + lifetime)),
        stale_while_revalidate=draw(_window),
        stale_if_error=draw(_window),
        kept=draw(_window),
        cost=draw(st.floats(0, 1e6)),
        price=draw(st.floats(-1e6, 1e6)),
        number=draw(st.integers(0, 2**52)),
    )


@settings(max_examples=150)
@given(
    wanted=entries(), compression=st.sampled_from(["zstd", "zlib", "none"]), secrets=st.sampled_from([(), (NEW, OLD)])
)
def test_every_entry_comes_back(wanted: Entry, compression: str, secrets: tuple[str, ...]) -> None:
    envelope = Envelope(secrets=secrets, compression=compression, compress_above=16)
    data = envelope.seal(KEY, wanted)
    same(opened(envelope, data, remaining=wanted.dead_from - 1000.0), wanted)
    assert OLD.encode() not in data


def test_how_long_it_still_lives_is_what_the_store_says_but_never_longer_than_it_was_meant_to() -> None:
    envelope = Envelope()
    data = envelope.seal(KEY, entry(stale_if_error=60.0))
    assert opened(envelope, data, remaining=100.0).dead_from == 1100.0
    assert opened(envelope, data, remaining=100.0).fresh_until == 1040.0
    assert opened(envelope, data, remaining=1e9).dead_from == 1360.0
    for impossible in (-1.0, math.nan):
        with pytest.raises(EnvelopeError, match="time"):
            opened(envelope, data, remaining=impossible)
    aged = envelope.seal(KEY, entry(stale_if_error=60.0), left=50.0)
    assert opened(envelope, aged, remaining=1e9).dead_from == 1050.0
    assert opened(envelope, aged, remaining=20.0).dead_from == 1020.0


def test_what_gets_smaller_is_compressed_and_what_does_not_is_left() -> None:
    plain, noise = entry(b"knowledge " * 1000), entry(random.Random(1).randbytes(10_000))
    for compression in ("zstd", "zlib"):
        envelope = Envelope(compression=compression)
        assert len(envelope.seal(KEY, plain)) < 1000
        assert 10_000 < len(envelope.seal(KEY, noise)) < 10_200
        same(opened(envelope, envelope.seal(KEY, plain)), plain)
    assert len(Envelope(compression="none").seal(KEY, plain)) > 10_000


def test_secrets_are_changed_one_machine_at_a_time() -> None:
    old, both, new = Envelope(secrets=[OLD]), Envelope(secrets=[NEW, OLD]), Envelope(secrets=[NEW])
    before, after = old.seal(KEY, entry(b"before")), both.seal(KEY, entry(b"after"))
    assert opened(both, before).body == b"before"
    assert opened(new, after).body == b"after"
    assert refused(new, before) == refused(old, after) == "sealed"
    assert b"before" not in before


def test_with_secrets_nothing_is_believed_that_is_not_sealed_and_without_nothing_that_is() -> None:
    open_one, closed = Envelope(), Envelope(secrets=[NEW])
    assert refused(closed, open_one.seal(KEY, entry())) == "sealed"
    assert refused(open_one, closed.seal(KEY, entry())) == "sealed"


@pytest.mark.parametrize("secrets", [(), (NEW,)])
def test_an_entry_that_was_moved_to_another_key_is_refused(secrets: tuple[str, ...]) -> None:
    envelope = Envelope(secrets=secrets)
    assert refused(envelope, envelope.seal(KEY, entry()), bytes(16)) == ("sealed" if secrets else "key")


def test_every_reason_has_its_word() -> None:
    envelope = Envelope(max_size=1000)
    data = envelope.seal(KEY, entry())
    assert refused(envelope, b"") == refused(envelope, b"X" + data) == "foreign"
    assert refused(envelope, data[:3]) == "truncated"
    assert refused(envelope, data[:2] + b"\x09" + data[3:]) == "version"
    assert refused(envelope, data[:-1]) == refused(envelope, data[:4] + b"\x00" + data[5:]) == "checksum"
    assert refused(envelope, data + bytes(200_000)) == "bomb"
    assert refused(envelope, forged(envelope, b"not msgpack")) == "shape"
    assert refused(envelope, forged(envelope, b"", code=7)) == "shape"
    assert refused(envelope, forged(envelope, content(status=-1))) == "shape"
    assert refused(envelope, forged(envelope, content(key=bytes(16)))) == "key"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("name", ["lifetime", "unsettled", "stale_if_error", "cost", "left"])
def test_times_that_are_none_are_refused(name: str, odd: float) -> None:
    envelope = Envelope()
    assert opened(envelope, forged(envelope, content())).dead_from == 1001.0
    forgery = forged(envelope, content(**{name: odd}))
    if not odd > 0:  # nan, too
        assert refused(envelope, forgery) == "shape"
    elif name in ("lifetime", "stale_if_error", "cost"):
        assert refused(envelope, forgery) == "time"
    else:
        assert opened(envelope, forgery).dead_from == (1300.0 if name == "left" else 1001.0), "what the store says"


def content(**changes: Any) -> bytes:
    """As whoever may write to the store could write it."""
    fields = {"key": KEY, "chunks": [], "status": 200, "headers": [], "vary": [], "tags": [], "lifetime": 1.0}
    fields |= dict.fromkeys(("unsettled", "stale_while_revalidate", "stale_if_error", "cost", "price"), 0.0)
    fields |= {"number": 0, "kept": 0.0, "stale_if_unreachable": False, "left": 1.0}
    return _envelope._encode(list((fields | changes).values()))


def forged(envelope: Envelope, inside: bytes, *, code: int = 0) -> bytes:
    """With a right checksum."""
    return _envelope._with_sum(b"GC\x02" + bytes((code,)) + inside)


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_a_bomb_is_refused_before_it_takes_memory(kind: str) -> None:
    envelope = Envelope(max_size=CAP)
    code = _compression.CODES[kind]
    plain = bytes(200_000_000)
    bomb = zlib.compress(plain) if kind == "zlib" else zstandard.ZstdCompressor().compress(plain)
    unsized = zstandard.ZstdCompressor().compressobj()
    bombs = [bomb] if kind == "zlib" else [bomb, unsized.compress(plain) + unsized.flush()]
    del plain
    blobs = [forged(envelope, one, code=code) for one in bombs]
    for blob in blobs:
        with at_most_traced(2 * CAP):
            assert refused(envelope, blob) == "bomb"


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_half_a_stream_is_no_entry_nor_is_one_with_something_behind_it(kind: str) -> None:
    envelope = Envelope(compression=kind)
    code, whole = _compression.CODES[kind], _compression.compressor(kind)(b"knowledge " * 1000)
    large = _compression.compressor(kind)(b"knowledge " * 10_000)
    for broken in (whole[:-4], whole + b"more", b"nothing of the kind", large[:-4], large + b"more"):
        assert refused(envelope, forged(envelope, broken, code=code)) == "shape"


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    greedy = stream.compress(b"knowledge " * 1000) + stream.flush()
    assert refused(Envelope(), forged(Envelope(), greedy, code=_compression.CODES["zstd"])) == "shape"


@pytest.mark.parametrize("secrets", [(), (NEW,)])
def test_ten_thousand_hostile_blobs_are_refused_and_cost_little(secrets: tuple[str, ...]) -> None:
    chance = random.Random(7)
    envelope = Envelope(secrets=secrets, max_size=CAP)
    body = b"knowledge " * 500
    good = [envelope.seal(KEY, entry(body)), envelope.seal(KEY, entry(b"short"))]
    blobs: list[bytes] = []
    for number in range(5_000):
        data = bytearray(chance.choice(good))
        match number % 5:
            case 0:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 1:
                del data[chance.randrange(len(data)) :]
            case 2:
                data = bytearray(PICKLE)
            case 3:
                data[2:4] = chance.randbytes(2)
                data[-1] ^= 1
            case _:
                data = bytearray(chance.randbytes(chance.randrange(200)))
        blobs.append(bytes(data))
    with at_most_traced(2 * CAP):
        for blob in blobs:
            with pytest.raises(EnvelopeError):
                opened(envelope, blob)


@pytest.mark.parametrize(
    "changes", [{"fresh_until": math.inf}, {"fresh_until": math.nan}, {"stale_if_error": math.inf}, {"born": 2000.0}]
)
def test_an_entry_without_an_end_or_a_beginning_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnstorableError, match="cannot be stored outside of this process"):
        Envelope().seal(KEY, entry(**changes))


def test_where_no_size_is_given_that_of_the_largest_answer_of_its_caches_is_taken() -> None:
    envelope, fixed = Envelope(), Envelope(max_size=1000)
    body = random.Random(1).randbytes(3_000_000)
    large = envelope.seal(KEY, entry(body))
    for one in (envelope, fixed):
        one.fit(1_000_000)
        assert refused(one, large) == "bomb"
    for one in (envelope, fixed):
        one.fit(3_000_000)
        one.fit(1_000)
    assert opened(envelope, large).body == body
    assert refused(fixed, large) == "bomb"


def test_an_entry_that_is_too_large_is_refused() -> None:
    with pytest.raises(UnstorableError, match=r"is larger than this store keeps \(66536\)"):
        Envelope(max_size=1000).seal(KEY, entry(bytes(70_000)))
    assert issubclass(EnvelopeError, StoreError)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compression": "lzma"}, "compression='lzma': choose zstd .the default., zlib or none"),
        ({"secrets": ["short", NEW]}, "secret 1 of 2 has 5 characters and needs 32 or more"),
        ({"secrets": NEW}, "give a list of them"),
    ],
)
def test_a_value_that_cannot_work_is_refused_without_showing_a_secret(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        Envelope(**options)
    assert "short" not in str(caught.value)
    assert NEW not in str(caught.value)


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compression, "zstandard", None)
    monkeypatch.setattr(_sealing, "AESGCM", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'glasscache\[redis\]'"):
        Envelope()
    with pytest.raises(ConfigurationError, match=r"pip install 'glasscache\[redis\]'"):
        Envelope(compression="zlib", secrets=[NEW])
    assert refused(Envelope(compression="none"), forged(Envelope(compression="none"), b"x", code=2)) == "shape"


def test_what_was_written_before_the_first_release_is_refused() -> None:
    old = "R0MBANcmHypzfoHmncQQAAECAwQFBgcICQoLDA0OD5LECWRhdGE6IDEKCg=="
    assert refused(Envelope(), base64.b64decode(old)) == "version"


@pytest.mark.parametrize("name", sorted(json.loads(FROZEN.read_text())) if FROZEN.exists() else ["missing"])
def test_every_format_that_was_ever_released_is_still_read(name: str) -> None:
    kept = json.loads(FROZEN.read_text())[name]
    envelope = Envelope(secrets=kept["secrets"], compression="none")
    found = opened(envelope, base64.b64decode(kept["data"]), base64.b64decode(kept["key"]), remaining=900.0)
    same(found, snapshot())


def snapshot() -> Entry:
    """The entry in all frozen envelopes."""
    return entry(
        chunks=(b"data: 1\n\n", b"knowledge " * 200),
        headers=((b"content-type", b"text/event-stream"), (b"x", b"\xff")),
        vary=(b"accept",),
        tags=("doc:7", "\N{EURO SIGN}"),
        stale_while_revalidate=60.0,
        stale_if_error=600.0,
        price=0.25,
        number=2**40,
    )


def freeze(version: str) -> None:
    """Adds the present format to the frozen ones: `python -c "from tests.test_envelope import *; freeze('v1')"`."""
    kept = json.loads(FROZEN.read_text()) if FROZEN.exists() else {}
    for compression in ("zstd", "zlib", "none"):
        for secrets in ([], [OLD]):
            name = f"{version}-{compression}{'-sealed' if secrets else ''}"
            assert name not in kept, f"{name} is frozen"
            data = Envelope(secrets=secrets, compression=compression).seal(KEY, snapshot())
            kept[name] = {
                "key": base64.b64encode(KEY).decode(),
                "secrets": secrets,
                "data": base64.b64encode(data).decode(),
            }
    FROZEN.parent.mkdir(exist_ok=True)
    FROZEN.write_text(json.dumps(kept, indent=1) + "\n")
