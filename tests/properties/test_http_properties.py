"""What holds of HTTP's fields whatever a client or an origin sends."""

from __future__ import annotations

import re
from email.utils import formatdate

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from glasscache.asgi import cache_status
from glasscache.asgi._fields import content_length, parse_directives, parse_http_date
from glasscache.asgi._http import (
    CONDITIONALS,
    ROUTING,
    assess,
    normalise,
    not_modified,
    not_modified_headers,
    routing_parts,
    storable_headers,
    vary_value,
)
from glasscache.policy import Policy, Share

pytestmark = pytest.mark.no_cover

thorough = settings(max_examples=100, deadline=None, derandomize=True)

# Bytes that look like fields: pieces with a meaning, and the characters that break them.
PIECES = [
    *(b"no-store", b"private", b"no-cache", b"max-age=60", b"s-maxage=5", b"public", b"60", b"0", b"*"),
    *(b"stale-while-revalidate=9", b"must-revalidate", b"accept", b"Origin", b"host=a", b"for=1", b"proto=b"),
    *(b"Sun, 06 Nov 1994 08:49:37 GMT", b'"a"', b"W/", b"close", b"x-a"),
    *(b",", b";", b"=", b'"', b"\\", b" ", b"\t", b"\x00", b"\xff", b"-", b":"),
]
values = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
names = st.sampled_from(
    [
        *(b"cache-control", b"vary", b"expires", b"date", b"age", b"set-cookie", b"retry-after", b"etag"),
        *(
            b"last-modified",
            b"content-length",
            b"connection",
            b"access-control-allow-origin",
            b"trailer",
            b"x-a",
        ),
    ]
)
headers = st.lists(st.tuples(names, values), max_size=6).map(tuple)
request_names = st.sampled_from(sorted(ROUTING | CONDITIONALS | {b"accept", b"x-a"}))
request_headers = st.lists(st.tuples(request_names, values), max_size=6).map(tuple)
seconds = st.floats(min_value=0, max_value=1e9)
policies = st.builds(
    Policy, stale_while_revalidate=seconds, stale_if_error=seconds, negative_ttl=st.just(0.0) | seconds
)
statuses = st.sampled_from([103, 200, 204, 206, 301, 304, 404, 410, 429, 500, 503])
listed = st.frozensets(statuses)
ttls = st.none() | seconds
nows = st.floats(min_value=0, max_value=4e9)


@thorough
@given(st.lists(values, max_size=4))
def test_directives_of_arbitrary_bytes_are_lower_case_names(fields: list[bytes]) -> None:
    found = parse_directives(fields)
    assert all(name and name == name.lower() for name in found)


@thorough
@given(before=values, after=values, name=st.sampled_from([b"no-store", b"private", b"no-cache"]))
def test_no_neighbour_hides_a_prohibition_that_stands_outside_quotes(before: bytes, after: bytes, name: bytes) -> None:
    # An even number of quotes and no escapes before it: the member is outside every quoted string.
    assume(before.count(b'"') % 2 == 0 and b"\\" not in before)
    assert name in parse_directives([before + b", " + name + b" ," + after])
    assert name in parse_directives([before, name.upper(), after])


@thorough
@given(values)
def test_a_date_is_a_number_or_none(value: bytes) -> None:
    assert isinstance(parse_http_date(value), float | None)


@thorough
@given(st.integers(min_value=0, max_value=253_402_300_799))
def test_every_date_survives_the_round_trip(time: int) -> None:
    assert parse_http_date(formatdate(time, usegmt=True).encode()) == time


@thorough
@given(headers)
def test_a_length_is_minus_1_or_more_or_none(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    length = content_length(fields)
    assert length is None or length >= -1
    assert (length is None) is all(name != b"content-length" for name, _ in fields)


@thorough
@given(statuses, headers, ttls, policies, listed, nows)
def test_an_assessment_is_consistent(
    status: int,
    fields: tuple[tuple[bytes, bytes], ...],
    ttl: float | None,
    policy: Policy,
    allowed: frozenset[int],
    now: float,
) -> None:
    found = assess(status, fields, ttl=ttl, policy=policy, statuses=allowed, now_wall=now)
    assert (found.share is Share.ALL) is (found.terms is not None) is (found.reason == "")
    assert found.retry_after is None or 0 <= found.retry_after <= 3600
    assert found.vary == tuple(sorted({name.lower() for name in found.vary}))
    if found.terms is not None:
        terms = found.terms
        assert status in allowed
        assert min(terms.ttl, terms.age, terms.stale_while_revalidate, terms.stale_if_error) >= 0
        assert terms.age < terms.ttl + max(terms.stale_while_revalidate, terms.stale_if_error) or terms.kept
        if status >= 400:
            assert terms.ttl <= policy.negative_ttl
        elif ttl is not None:
            assert (terms.ttl, terms.age) == (ttl, 0)


PROHIBITIONS = [
    (b"cache-control", b"no-store"),
    (b"cache-control", b"max-age=60, Private"),
    (b"cache-control", b'private="x a"'),
    (b"set-cookie", b"a=b"),
    (b"vary", b"accept, *"),
    (b"vary", b"a b"),
]


@thorough
@given(statuses, headers, st.sampled_from(PROHIBITIONS), ttls, policies, st.data())
def test_what_is_for_one_reader_is_never_shared(
    status: int,
    fields: tuple[tuple[bytes, bytes], ...],
    prohibition: tuple[bytes, bytes],
    ttl: float | None,
    policy: Policy,
    data: st.DataObject,
) -> None:
    at = data.draw(st.integers(min_value=0, max_value=len(fields)))
    mixed = (*fields[:at], prohibition, *fields[at:])
    found = assess(status, mixed, ttl=ttl, policy=policy, statuses=frozenset({status}), now_wall=0)
    assert found.share is Share.NONE
    assert found.terms is None


@thorough
@given(headers, st.frozensets(names))
def test_stored_headers_are_a_subsequence_and_storing_them_again_changes_nothing(
    fields: tuple[tuple[bytes, bytes], ...], extra: frozenset[bytes]
) -> None:
    stored = storable_headers(fields, extra)
    rest = iter(fields)
    assert all(field in rest for field in stored)
    assert storable_headers(stored, extra) == stored
    assert not extra & {name for name, _ in stored}
    repeated = not_modified_headers(stored)
    assert all(field in stored for field in repeated)


@thorough
@given(st.lists(st.tuples(st.binary(max_size=5), values)))
def test_normalising_twice_is_normalising_once(raw: list[tuple[bytes, bytes]]) -> None:
    once = normalise(raw)
    assert normalise([list(field) for field in once]) == once
    assert [value for _, value in once] == [value for _, value in raw]


@thorough
@given(request_headers)
def test_routing_parts_come_in_pairs_and_reducing_them_again_changes_nothing(
    fields: tuple[tuple[bytes, bytes], ...],
) -> None:
    parts = routing_parts(fields)
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    assert all(name in ROUTING for name, _ in pairs)
    assert routing_parts(pairs) == parts


@thorough
@given(values)
@example(b'for="x,host=evil"')
@example(b"for=1;xhost=a")
def test_no_host_that_a_simple_parser_could_see_is_left_out_of_the_key(value: bytes) -> None:
    """A simple parser splits at every comma and semicolon, and knows no quotes."""
    seen = [pair.strip(b' \t"\\') for pair in re.split(rb"[,;]", value)]
    hosts = [pair for pair in seen if pair.lower().startswith((b"host=", b"proto="))]
    keyed = b" ".join(routing_parts([(b"forwarded", value)])).lower()
    assert all(host.lower() in keyed for host in hosts)


@thorough
@given(request_headers, request_headers)
def test_a_present_header_never_selects_the_variant_of_an_absent_one(
    fields: tuple[tuple[bytes, bytes], ...], others: tuple[tuple[bytes, bytes], ...]
) -> None:
    for name in (b"accept", b"x-a"):
        assert (vary_value(name, fields) == vary_value(name, [])) is all(field != name for field, _ in fields)
        if [value for field, value in fields if field == name] == [v for field, v in others if field == name]:
            assert vary_value(name, fields) == vary_value(name, others)


@thorough
@given(request_headers, statuses, headers)
def test_a_304_is_for_conditional_requests_of_successes_only(
    request: tuple[tuple[bytes, bytes], ...], status: int, stored: tuple[tuple[bytes, bytes], ...]
) -> None:
    if not_modified(request, status, stored):
        assert 200 <= status < 300
        assert {b"if-none-match", b"if-modified-since"} & {name for name, _ in request}


@thorough
@given(st.text(max_size=30), st.floats(min_value=-1e9, max_value=1e9))
def test_a_cache_status_is_one_line_of_printable_ascii(detail: str, ttl: float) -> None:
    item = rb'(?:[A-Za-z*][!#$%&\'*+.^_`|~0-9A-Za-z:/-]*|"(?:[ !#-\[\]-~]|\\["\\])*")'
    assert re.fullmatch(rb"glasscache; hit; ttl=-?\d+; detail=" + item, cache_status.stale(ttl, detail))
    assert re.fullmatch(rb"glasscache; fwd=bypass(?:; detail=" + item + rb")?", cache_status.bypass(detail))
