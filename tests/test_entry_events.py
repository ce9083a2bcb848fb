"""The ground floor: entries, counters, clocks and errors."""

from __future__ import annotations

import pytest

from glasscache import _entry, errors
from glasscache._counters import Counters, GroupCounters
from glasscache._entry import entry_of
from glasscache._events import Answered, Load, SpanRef, TierGauge, Wait
from glasscache.testing import entry


def test_the_size_of_an_entry_is_its_body_and_its_headers_as_on_the_wire() -> None:
    made = entry(chunks=(b"12345", b"678"), headers=((b"etag", b'"a"'), (b"x", b"")))
    wire = b"etag: " + b'"a"' + b"\r\n" + b"x: " + b"\r\n"
    assert made.size == 8 + len(wire)


def test_an_entry_without_chunks_or_headers_has_no_size() -> None:
    assert entry(chunks=(), headers=()).size == 0


def test_an_entry_is_dead_when_its_longest_window_ends() -> None:
    assert entry(fresh_until=1300.0).dead_from == 1300.0
    assert entry(fresh_until=1300.0, stale_while_revalidate=60.0, stale_if_error=10.0).dead_from == 1360.0
    assert entry(fresh_until=1300.0, stale_while_revalidate=60.0, stale_if_error=600.0).dead_from == 1900.0


def test_the_body_of_one_chunk_is_that_chunk_itself() -> None:
    chunk = bytes(bytearray(b"not copied"))
    assert entry(chunk).body is chunk


def test_the_body_of_several_chunks_is_joined() -> None:
    assert entry(chunks=(b"a", b"", b"b")).body == b"ab"
    assert entry(chunks=()).body == b""


def test_entries_are_told_apart_by_identity_and_hold_nothing_unforeseen() -> None:
    one, other = entry(), entry()
    assert one != other
    assert not hasattr(one, "__dict__")
    bare = entry_of(chunks=(b"salt",), born=0.0, fresh_until=1.0, settled_until=1.0)
    assert (bare.status, bare.headers, bare.vary, bare.tags, bare.cost, bare.number) == (0, (), (), (), 0.0, 0)


def test_what_answers_have_in_common_is_kept_once_and_long_fields_are_not_remembered() -> None:
    for memo in (_entry._fields, _entry._names, _entry._lists):  # nearly full, they would be emptied on the way
        memo.clear()

    def fields(value: bytes) -> tuple[tuple[bytes, bytes], ...]:
        return ((bytes(bytearray(b"content-type")), bytes(bytearray(value))),)

    one, like, long, alike = (
        entry(headers=fields(value)) for value in (b"text/plain", b"text/plain", b"x" * 100, b"x" * 100)
    )
    assert one.headers[0] is like.headers[0]
    assert entry(headers=fields(b"text/plain")).headers is like.headers
    assert long.headers == alike.headers == fields(b"x" * 100)
    assert long.headers is not alike.headers
    assert long.headers[0][0] is one.headers[0][0]
    assert (one.size, long.size) == (len(one.body) + 26, len(long.body) + 116)


def test_of_what_answers_have_in_common_only_so_much_is_remembered() -> None:
    for number in range(3000):  # origins may send new fields and names without end
        found = entry(headers=((b"x", b"%d" % number), (b"%d" % number, b"y")))
        assert found.headers == ((b"x", b"%d" % number), (b"%d" % number, b"y"))
        assert max(len(_entry._fields), len(_entry._names), len(_entry._lists)) <= 1025


def test_counters_make_a_group_on_first_use_and_keep_it() -> None:
    counters = Counters()
    group = counters.group("rule")
    assert counters.group("rule") is group
    assert counters.group("other") is not group
    assert set(counters.groups) == {"rule", "other"}
    assert group.name == "rule"


def test_the_requests_of_a_group_are_its_hits_and_the_others() -> None:
    group = GroupCounters("rule")
    assert group.requests() == {}
    group.others["miss", "origin"] += 2
    group.others["hit", "memory"] += 1
    assert group.requests() == {("miss", "origin"): 2, ("hit", "memory"): 1}
    group.hits += 3
    assert group.requests() == {("miss", "origin"): 2, ("hit", "memory"): 4}
    assert group.others["hit", "memory"] == 1, "reading counts nothing"


def test_what_is_saved_adds_up() -> None:
    group = GroupCounters("rule")
    group.save(0.25, 0.5, 100)
    group.save(0.5, 0.25, 10)
    assert (group.saved_seconds, group.saved_price, group.saved_bytes) == (0.75, 0.75, 110)


def test_zero_starts_from_nothing_and_keeps_the_groups_that_others_hold() -> None:
    counters = Counters()
    group = counters.group("rule")
    group.hits = 5
    group.others["miss", "origin"] = 1
    group.saved_seconds = group.hit_seconds = group.miss_seconds = 1.5
    group.saved_bytes = group.hit_samples = group.misses_timed = 7
    group.bypasses["method"] = 1
    counters.group("other").bypasses["method"] = 2
    group.unstored["private"] = 1
    assert (counters.bypasses, counters.unstored) == ({"method": 3}, {"private": 1})
    counters.removals["memory", "evicted"] = 1
    counters.zero()
    assert counters.group("rule") is group
    assert group.requests() == {}
    numbers = (group.saved_seconds, group.hit_seconds, group.miss_seconds, group.saved_bytes)
    assert (*numbers, group.hit_samples, group.misses_timed) == (0,) * 6
    assert (counters.bypasses, counters.unstored) == ({}, {})
    assert counters.removals == {}


def test_events_cannot_be_changed_and_work_can() -> None:
    told = Answered(result="miss", duration=0.2)
    with pytest.raises(AttributeError):
        told.duration = 0.3  # type: ignore[misc]
    load = Load(group="rule", key=b"key", trigger="miss")
    load.ref = SpanRef(1, 2, sampled=False)
    wait = Wait(group="rule", key=b"key", scope="process", holder=load, position=1)
    assert wait.outcome == "error", "until it is known to be another"
    assert Load(group="rule", key=b"key", trigger="miss").waiters is not load.waiters


def test_a_gauge_is_read_by_name() -> None:
    gauge = TierGauge("memory", 1, 2, 3, 4)
    assert (gauge.tier, gauge.entries, gauge.entry_limit, gauge.size, gauge.size_limit) == gauge


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.CodecError, ValueError),
        (errors.LoadTimeoutError, TimeoutError),
        (errors.RecursiveLoadError, RuntimeError),
        (errors.ReaderCutError, ConnectionError),
        (errors.StoreError, Exception),
        (errors.LoadStoppedError, Exception),
    ],
)
def test_every_error_is_a_glasscache_error_and_the_builtin_that_one_would_expect(
    error: type[Exception], base: type[Exception]
) -> None:
    assert issubclass(error, errors.GlasscacheError)
    assert issubclass(error, base)


def test_of_too_many_groups_the_later_ones_are_counted_as_one() -> None:
    counters = Counters()
    first = counters.group("first")
    for number in range(2000):
        counters.group(f"user {number}").hits += 1
    assert counters.group("first") is first
    assert len(counters.groups) == 1001
    assert counters.group("_other").hits == 1001
