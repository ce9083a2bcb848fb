"""What the fields of HTTP mean to a cache, example by example, in the order of the RFC sections."""

from __future__ import annotations

from functools import partial

import pytest

from glasscache._entry import Headers
from glasscache.asgi import cache_status
from glasscache.asgi._fields import content_length, parse_directives, parse_http_date
from glasscache.asgi._http import (
    CONDITIONALS,
    CREDENTIALS,
    ROUTING,
    Assessment,
    assess,
    normalise,
    not_modified,
    not_modified_headers,
    precondition,
    routing_parts,
    storable_headers,
    vary_value,
)
from glasscache.policy import Policy, Share, Terms

stated = partial(Terms, counts_delay=True)
"""Terms that the origin stated itself, ..."""

DAY = 86_400.0
lasting = partial(stated, kept=DAY, stale_if_unreachable=True)
"""... and for an answer that may stand in for an origin that cannot be reached."""

NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110."""
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
HOUR_LATER = b"Sun, 06 Nov 1994 09:49:37 GMT"
HOUR_BEFORE = b"Sun, 06 Nov 1994 07:49:37 GMT"
OK = frozenset({200})


def judged(
    *fields: tuple[bytes, bytes],
    status: int = 200,
    ttl: float | None = None,
    statuses: frozenset[int] | None = OK,
    policy: Policy | None = None,
    now_wall: float = NOW,
) -> Assessment:
    return assess(status, fields, ttl=ttl, policy=policy or Policy(), statuses=statuses, now_wall=now_wall)


def cc(value: bytes) -> tuple[bytes, bytes]:
    return b"cache-control", value


def terms(*fields: tuple[bytes, bytes], now_wall: float = NOW) -> Terms:
    found = judged(*fields, now_wall=now_wall).terms
    assert found is not None
    return found


# --- RFC 9110, 5.6.7: dates --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "date",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"  Sun, 06 Nov 1994 08:49:37 GMT\t",
        b"sun, 06 nov 1994 08:49:37 gmt",  # RFC 9111, section 4.2: a cache ignores case
    ],
)
def test_each_of_the_three_date_formats_is_understood(date: bytes) -> None:
    assert parse_http_date(date) == NOW


@pytest.mark.parametrize(
    ("date", "time"),
    [
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800.0),  # a leap second
        (b"Thu Feb 29 12:00:00 2024", 1_709_208_000.0),
        (b"Friday, 01-Jan-27 00:00:00 GMT", 1_798_761_600.0),  # no such Friday in 1927
        (b"Wednesday, 31-Dec-69 23:59:59 GMT", -1.0),
    ],
)
def test_dates_at_the_edges(date: bytes, time: float) -> None:
    assert parse_http_date(date) == time


@pytest.mark.parametrize(
    "date",
    [
        b"",
        b"0",
        b"-1",
        b"784111777",
        b"Xyz, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nox 1994 08:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994  08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Monday, 06-Nov-94 08:49:37 GMT",  # neither in 1994 nor in 2094
        b"Sun Nov 6 08:49:37 1994",
        b"Sun, 31 Feb 2027 00:00:00 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT".encode(),
    ],
)
def test_what_is_no_date_by_the_letter_is_none(date: bytes) -> None:
    assert parse_http_date(date) is None


# --- RFC 9110, 8.6: Content-Length -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ([], None),
        ([b"0"], 0),
        ([b" 5\t"], 5),
        ([b"5", b"5"], 5),
        ([b"9" * 18], 10**18 - 1),
        ([b"5, 05"], 5),
        ([b"5", b"6"], -1),
        ([b"5, 6"], -1),
        ([b"5,"], -1),
        ([b""], -1),
        ([b"-5"], -1),
        ([b"+5"], -1),
        ([b"5.0"], -1),
        ([b"0x5"], -1),
        ([b"9" * 5000], -1),
    ],
)
def test_a_declared_length_counts_only_if_it_is_one_number(values: list[bytes], length: int | None) -> None:
    headers = (*((b"content-length", value) for value in values), (b"x-content-length", b"7"))
    assert content_length(headers) == length


# --- RFC 9111, 5.2: Cache-Control --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "directives"),
    [
        ([], {}),
        ([b""], {}),
        ([b", ,"], {}),
        ([b"max-age=60, Public"], {b"max-age": b"60", b"public": None}),
        ([b"max-age=60", b"no-store"], {b"max-age": b"60", b"no-store": None}),
        ([b"PRIVATE"], {b"private": None}),
        ([b'max-age="60"'], {b"max-age": b"60"}),
        ([b'private="set-cookie, x-a", max-age=5'], {b"private": b"set-cookie, x-a", b"max-age": b"5"}),
        ([b'ext="no-store", max-age=5'], {b"ext": b"no-store", b"max-age": b"5"}),
        ([rb'ext="a\"b, no-store", max-age=5'], {b"ext": b'a"b, no-store', b"max-age": b"5"}),
        ([b'ext=""'], {b"ext": b""}),
    ],
)
def test_directives_are_read(values: list[bytes], directives: dict[bytes, bytes | None]) -> None:
    assert parse_directives(values) == directives


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"max-age=60, max-age=5", b"5"),
        (b"max-age=5, max-age=60", b"5"),
        (b"max-age=60, max-age", None),
        (b"max-age, max-age=60", None),
        (b"max-age=60, max-age=soon", b"soon"),
        (b"max-age=soon, max-age", None),
        (b"max-age=soon, max-age=60, max-age=later", b"soon"),
    ],
)
def test_of_a_repeated_directive_the_strictest_stays(value: bytes, kept: bytes | None) -> None:
    assert parse_directives([value]) == {b"max-age": kept}


@pytest.mark.parametrize(
    "value",
    [
        b"max-age=60; no-store",
        b"max-age=60 no-store",
        b'ext="never closed, no-store',
        b'ext=x"y, no-store, z"',
        b'"no-store"',
        b"no-store:",
        b"max-age = 60, no-store",
        b"\xff, no-store",
        b"=, no-store",
        b"no-store=yes",
        b'x="\\, no-store',
    ],
)
def test_a_prohibition_inside_a_malformed_field_still_counts(value: bytes) -> None:
    assert b"no-store" in parse_directives([value])
    assert judged(cc(value), ttl=60).share is Share.NONE


@pytest.mark.parametrize(
    "value",
    [
        b"max-age",
        b"max-age=",
        b"max-age = 60",
        b"max-age=-1",
        b"max-age=1.5",
        b"max-age=1e3",
        b'max-age="60',
        b"max-age=60, max-age=x",
    ],
)
def test_a_malformed_lifetime_is_none(value: bytes) -> None:  # section 4.2.1
    assert judged(cc(value)).reason == "no_freshness"


# --- RFC 9111, 3: what may be stored and shared at all -----------------------------------------------------


@pytest.mark.parametrize("ttl", [None, 60.0])
@pytest.mark.parametrize("status", [200, 404, 500, 206])
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (cc(b"no-store"), "no_store"),
        (cc(b"must-understand"), "no_store"),
        (cc(b"private"), "private"),
        (cc(b'private="not a name"'), "private"),
        (cc(b'private=""'), "private"),
        ((b"set-cookie", b"a=b"), "set_cookie"),
        ((b"trailer", b"server-timing"), "trailers"),
        ((b"vary", b"*"), "vary_star"),
        ((b"vary", b"accept, *"), "vary_star"),
        ((b"vary", b"accept encoding"), "vary_malformed"),
        ((b"vary", b'"accept"'), "vary_malformed"),
        ((b"access-control-allow-origin", b"https://a.example"), "cors_without_vary"),
        ((b"access-control-allow-origin", b"null"), "cors_without_vary"),
    ],
)
def test_what_is_for_one_reader_is_shared_with_nobody(
    field: tuple[bytes, bytes], reason: str, status: int, ttl: float | None
) -> None:
    policy = Policy(negative_ttl=5)
    said = [field, cc(b"max-age=60")]
    if field == cc(b"must-understand"):  # what a status means is known for some only
        said, status = [field, cc(b"no-store, max-age=60")], 599
    found = judged(*said, status=status, ttl=ttl, policy=policy, statuses=frozenset({200, 404, 500}))
    assert (found.share, found.terms, found.reason) == (Share.NONE, None, reason)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (cc(b"must-understand, no-store"), "no_store"),
        (cc(b'private="x-user"'), "private"),
        (cc(b"no-cache"), "no_cache"),
        (cc(b'no-cache="set-cookie"'), "no_cache"),
        ((b"clear-site-data", b'"cookies"'), "clear_site_data"),
    ],
)
def test_a_rule_with_a_ttl_reads_the_strict_way_what_can_be_read_in_two(
    field: tuple[bytes, bytes], reason: str
) -> None:
    found = judged(field, cc(b"max-age=60"), ttl=60)
    assert (found.share, found.terms, found.reason) == (Share.NONE, None, reason)


def test_a_specific_origin_is_stored_under_vary_origin_only() -> None:
    named, any_origin = b"https://a.example", b"*"
    allow = b"access-control-allow-origin"
    assert judged((allow, any_origin), ttl=60).share is Share.ALL
    assert judged((allow, named), (b"vary", b"Accept, Origin"), ttl=60).share is Share.ALL
    assert judged((allow, any_origin), (allow, named), ttl=60).reason == "cors_without_vary"


def test_vary_names_are_lower_case_sorted_and_unique() -> None:
    found = judged((b"vary", b"Origin, accept-encoding,"), (b"vary", b"ACCEPT-Encoding, Accept"), ttl=60)
    assert found.vary == (b"accept", b"accept-encoding", b"origin")
    assert judged((b"vary", b""), ttl=60).vary == ()


def test_a_refused_answer_tells_its_vary_names_if_they_select_anything() -> None:
    assert judged((b"vary", b"Accept"), cc(b"private")).vary == (b"accept",)
    assert judged((b"vary", b"Accept"), status=404).vary == (b"accept",)
    assert judged((b"vary", b"Accept, *")).vary == ()
    assert judged((b"vary", b"Accept, a b")).vary == ()


@pytest.mark.parametrize("status", [100, 103, 201, 204, 206, 301, 304, 400, 404, 410, 416, 429])
@pytest.mark.parametrize("ttl", [None, 60.0])
def test_another_status_is_its_leaders_alone(status: int, ttl: float | None) -> None:
    found = judged(cc(b"max-age=60"), status=status, ttl=ttl)
    assert (found.share, found.terms, found.reason) == (Share.LEADER, None, "status")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
@pytest.mark.parametrize("ttl", [None, 60.0])
def test_a_failure_is_shared_with_those_who_waited(status: int, ttl: float | None) -> None:
    found = judged(cc(b"max-age=60"), status=status, ttl=ttl)
    assert (found.share, found.terms, found.reason) == (Share.WHEN_COMPLETE, None, "status")


@pytest.mark.parametrize("status", [100, 103, 206, 304])
def test_parts_and_confirmations_are_never_stored_even_if_listed(status: int) -> None:
    found = judged(cc(b"max-age=60"), status=status, ttl=60, statuses=frozenset({status}))
    assert (found.share, found.terms) == (Share.LEADER, None)


def test_a_listed_status_is_stored() -> None:
    found = judged(status=301, ttl=60, statuses=frozenset({200, 301}))
    assert (found.share, found.terms) == (Share.ALL, Terms(ttl=60))


def test_a_rules_ttl_overrides_what_the_origin_says_of_freshness() -> None:
    policy = Policy(stale_while_revalidate=7, stale_if_error=8)
    found = judged(
        cc(b"max-age=0, s-maxage=1, must-revalidate, stale-if-error=999"),
        (b"expires", b"0"),
        (b"age", b"500"),
        (b"date", HOUR_BEFORE),
        (b"pragma", b"no-cache"),  # section 5.4: means nothing in a response
        ttl=60,
        policy=policy,
    )
    assert found == Assessment(share=Share.ALL, terms=Terms(ttl=60, stale_while_revalidate=7, stale_if_error=8))


def test_a_ttl_of_0_stores_only_what_may_be_served_stale() -> None:
    assert judged(ttl=0).reason == "no_freshness"
    found = judged(ttl=0, policy=Policy(stale_while_revalidate=7))
    assert found.terms == Terms(ttl=0, stale_while_revalidate=7)


@pytest.mark.parametrize("status", [404, 410, 500])
def test_errors_are_stored_for_the_negative_ttl_without_stale_windows(status: int) -> None:
    policy = Policy(negative_ttl=5, stale_while_revalidate=7, stale_if_error=8)
    found = judged(status=status, ttl=60, policy=policy, statuses=frozenset({200, status}))
    assert (found.share, found.terms) == (Share.ALL, Terms(ttl=5))


def test_an_origins_word_on_an_error_is_kept_within_the_negative_ttl() -> None:
    policy, statuses = Policy(negative_ttl=5), frozenset({404, 500})

    def found(value: bytes, status: int = 404) -> Assessment:
        return judged(cc(value), status=status, policy=policy, statuses=statuses)

    assert found(b"max-age=3, stale-if-error=9").terms == stated(ttl=3)
    assert found(b"max-age=60").terms == stated(ttl=5)
    assert (found(b"public").share, found(b"public").reason) == (Share.LEADER, "no_freshness")
    assert (found(b"max-age=0", 500).share, found(b"max-age=0", 500).terms) == (Share.WHEN_COMPLETE, None)


@pytest.mark.parametrize("status", [404, 500])
def test_errors_are_not_stored_unless_a_negative_ttl_says_so(status: int) -> None:
    found = judged(cc(b"max-age=60"), status=status, ttl=60, statuses=frozenset({status}))
    assert (found.terms, found.reason) == (None, "status")


# --- RFC 9111, 4.2: freshness by the origin's own words ----------------------------------------------------


def test_without_a_word_on_freshness_nothing_is_stored() -> None:
    found = judged((b"etag", b'"a"'), (b"date", DATE), cc(b"public"))
    assert (found.share, found.terms, found.reason) == (Share.NONE, None, "no_freshness")


def test_what_has_not_changed_for_long_is_taken_to_stay_for_a_tenth_of_that() -> None:  # 4.2.2
    modified = (b"last-modified", HOUR_BEFORE)
    assert terms(modified, (b"date", DATE)) == lasting(ttl=360)
    assert terms((b"last-modified", b"Sun, 06 Nov 1983 08:49:37 GMT"), (b"date", DATE)).ttl == DAY
    assert judged((b"last-modified", HOUR_LATER), (b"date", DATE)).reason == "no_freshness"
    assert judged(modified, modified, (b"date", DATE)).reason == "no_freshness"
    assert judged((b"last-modified", b"long ago"), (b"date", DATE)).reason == "no_freshness"
    for status, said, reason in ((404, b"", ""), (299, b"", "no_freshness"), (299, b"public", "")):
        found = judged(modified, (b"date", DATE), cc(said), status=status, statuses=None)
        assert found.reason == reason, (status, said)


def test_s_maxage_beats_max_age_beats_expires() -> None:
    expires = (b"expires", HOUR_LATER)
    assert terms(cc(b"max-age=60, s-maxage=30"), expires).ttl == 30
    assert terms(cc(b"max-age=60"), expires).ttl == 60
    assert terms(cc(b"public"), expires).ttl == 3600
    assert judged(cc(b"s-maxage=x, max-age=60"), expires).reason == "no_freshness"


def test_expires_counts_from_date_or_else_from_receipt() -> None:
    expires = (b"expires", HOUR_LATER)
    assert terms(expires, (b"date", DATE), now_wall=NOW + 10.9) == lasting(ttl=3600, age=10)
    assert terms(expires, (b"date", b"yesterday"), now_wall=NOW + 10) == lasting(ttl=3590)
    assert terms(expires, now_wall=NOW + 10) == lasting(ttl=3590)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"expires", b"0")],
        [(b"expires", b"-1")],
        [(b"expires", b"")],
        [(b"expires", DATE)],
        [(b"expires", HOUR_BEFORE)],
        [(b"expires", HOUR_LATER), (b"expires", b"0")],
        [(b"expires", HOUR_LATER), (b"expires", DATE)],
    ],
)
def test_a_past_invalid_or_contradictory_expires_is_already_expired(
    fields: list[tuple[bytes, bytes]],
) -> None:
    assert judged(*fields).reason == "no_freshness"


def test_an_expires_that_is_repeated_alike_is_one() -> None:
    assert terms((b"expires", HOUR_LATER), (b"expires", b"Sunday, 06-Nov-94 09:49:37 GMT")).ttl == 3600


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ([b"10"], 10),
        ([b"10, 20"], 10),  # 5.1: the first member
        ([b"10", b"20"], 10),
        ([b"10;a=1"], 10),
        ([b""], 0),
        ([b",7"], 7),
    ],
)
def test_the_first_age_counts(values: list[bytes], age: int) -> None:
    assert terms(cc(b"max-age=60"), *((b"age", value) for value in values)) == lasting(ttl=60, age=age)


@pytest.mark.parametrize("value", [b"x", b"-5", b"1.5", b"x, 10", b";a"])
def test_an_answer_of_unknown_age_counts_as_stale(value: bytes) -> None:
    assert judged(cc(b"max-age=60"), (b"age", value)).reason == "no_freshness"
    assert terms(cc(b"max-age=60"), (b"age", value), (b"etag", b'"a"')) == stated(ttl=60, age=60, kept=DAY)


def test_the_age_is_what_date_shows_if_that_is_more() -> None:  # 4.2.3: apparent_age
    assert terms(cc(b"max-age=9000"), (b"date", HOUR_BEFORE), (b"age", b"5")).age == 3600
    assert terms(cc(b"max-age=9000"), (b"date", HOUR_BEFORE), (b"age", b"5000")).age == 5000
    assert terms(cc(b"max-age=9000"), (b"date", HOUR_LATER), (b"age", b"5")).age == 5


def test_what_arrives_stale_is_not_stored_unless_it_can_be_confirmed() -> None:
    assert terms(cc(b"max-age=60"), (b"age", b"60"), (b"etag", b'"a"')) == stated(ttl=60, age=60, kept=DAY)
    assert judged(cc(b"max-age=60"), (b"age", b"60")).reason == "no_freshness"
    assert judged(cc(b"max-age=60"), (b"age", b"59")).share is Share.ALL
    assert judged(cc(b"max-age=0")).reason == "no_freshness"


def test_what_only_the_turn_of_a_second_makes_stale_may_be_served_stale() -> None:
    assert terms(cc(b"max-age=1"), (b"date", DATE), now_wall=NOW + 1.01).stale_if_unreachable
    assert judged(cc(b"max-age=1"), (b"date", DATE), now_wall=NOW + 2.01).reason == "no_freshness"


def test_an_overflowing_number_of_seconds_is_2_to_the_31st() -> None:  # 1.2.2
    assert terms(cc(b"max-age=2147483649")).ttl == 2**31
    assert terms(cc(b"max-age=" + b"9" * 10_000)).ttl == 2**31
    assert terms(cc(b"max-age=" + b"0" * 10_000 + b"60")).ttl == 60


# --- RFC 5861; RFC 9111, 4.2.4: stale ----------------------------------------------------------------------


def test_the_origins_stale_windows_are_kept_and_the_policys_are_not() -> None:
    policy = Policy(stale_while_revalidate=7, stale_if_error=8)
    found = judged(cc(b"max-age=60, stale-while-revalidate=30, stale-if-error=90"), policy=policy)
    assert found.terms == lasting(ttl=60, stale_while_revalidate=30, stale_if_error=90)
    assert judged(cc(b"max-age=60, stale-if-error=x"), policy=policy).terms == lasting(ttl=60)


def test_an_answer_without_freshness_but_with_a_stale_window_is_stored() -> None:
    assert terms(cc(b"max-age=0, stale-while-revalidate=30")) == stated(ttl=0, stale_while_revalidate=30)
    assert judged(cc(b"max-age=0, stale-while-revalidate=30"), (b"age", b"30")).terms is None


@pytest.mark.parametrize("directive", [b"must-revalidate", b"proxy-revalidate", b"s-maxage=60"])
def test_some_directives_forbid_serving_stale(directive: bytes) -> None:
    value = b"max-age=60, stale-while-revalidate=30, stale-if-error=90, " + directive
    assert terms(cc(value)) == stated(ttl=60)


# --- RFC 9110, 10.2.3: Retry-After -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        ([b"30"], 30.0),
        ([b" 30 "], 30.0),
        ([b"0"], 0.0),
        ([b"86400"], 3600.0),
        ([b"Sun, 06 Nov 1994 08:50:07 GMT"], 30.0),
        ([b"Mon, 07 Nov 1994 08:49:37 GMT"], 3600.0),
        ([HOUR_BEFORE], 0.0),
        ([b"soon"], None),
        ([b"-1"], None),
        ([b"30", b"60"], 30.0),
    ],
)
def test_a_pause_is_read_and_bounded(values: list[bytes], seconds: float | None, status: int) -> None:
    fields = [(b"retry-after", value) for value in values]
    assert judged(*fields, status=status).retry_after == seconds
    assert judged(*fields, cc(b"no-store"), status=status).retry_after == seconds


def test_only_a_429_or_503_asks_for_a_pause() -> None:
    assert judged((b"retry-after", b"30"), status=301, ttl=60).retry_after is None


# --- Headers in and out ------------------------------------------------------------------------------------


def test_headers_are_normalised_without_losing_order_or_repetitions() -> None:
    raw = [[b"Set-Cookie", b"A=1"], (b"ETag", b'"X"'), [b"set-cookie", b"B=2"]]
    assert normalise(raw) == ((b"set-cookie", b"A=1"), (b"etag", b'"X"'), (b"set-cookie", b"B=2"))
    assert normalise([]) == ()


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ([("x-a", b"1")], "'x-a' is str"),
        ([(b"x-a", "one")], "b'x-a': 'one' is str"),
        ([(b"x-a", 1)], "1 is int"),
        ([(b"x-a", bytearray(b"1"))], "is bytearray"),
        ([(b"x-a", None)], "None is NoneType"),
        ([(b"x-a",)], "is no pair"),
        ([(b"x-a", b"1", b"2")], "is no pair"),
        ([7], "7 is no pair"),
        ([b"ab"], "is int"),
    ],
)
def test_what_no_server_could_send_is_named(raw: list[tuple[bytes, bytes]], named: str) -> None:
    with pytest.raises(TypeError, match="header") as caught:
        normalise(raw)
    assert named in str(caught.value)


def test_a_long_culprit_is_named_in_short() -> None:
    with pytest.raises(TypeError) as caught:
        normalise([(b"x", "secret" * 1000)])
    assert len(str(caught.value)) < 200


def test_headers_of_one_connection_and_of_one_request_are_not_stored() -> None:  # RFC 9110, 7.6.1; RFC 9111, 3.1
    kept: Headers = (
        (b"content-type", b"text/plain"),
        (b"link", b"<a>"),
        (b"link", b"<b>"),
        (b"date", DATE),
        (b"cache-status", b"origin-cache; hit"),
        (b"content-length", b"3"),
    )
    dropped: Headers = (
        (b"connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-authenticate", b"Basic"),
        (b"proxy-authentication-info", b"x"),
        (b"proxy-connection", b"close"),
        (b"trailer", b"x-b"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"age", b"5"),
        (b"traceparent", b"00-1-2-01"),
        (b"x-request-id", b"7"),
        (b"server-timing", b"db;dur=5"),
        (b"x-process-time", b"0.2"),
    )
    mixed = (*dropped[:6], *kept[:3], *dropped[6:], *kept[3:])
    assert storable_headers(mixed) == kept
    assert storable_headers(((b"X-Mine", b"1"), (b"ETag", b"2")), frozenset({b"x-mine"})) == ((b"etag", b"2"),)


# --- RFC 7239 and its unofficial kin: what the app may believe about the request ---------------------------


def test_headers_that_can_reroute_a_request_are_keyed_whatever_their_order() -> None:
    host, proto = (b"x-forwarded-host", b" a.example "), (b"x-forwarded-proto", b"https")
    parts = (b"x-forwarded-host", b"a.example", b"x-forwarded-proto", b"https")
    assert routing_parts([host, (b"accept", b"*/*"), proto]) == parts
    assert routing_parts([proto, host]) == parts
    assert routing_parts([(b"accept", b"*/*"), (b"x-forwarded-for", b"192.0.2.1")]) == ()
    assert routing_parts([proto, proto]) == (b"x-forwarded-proto", b"https") * 2


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"host=a.example", b"host=a.example"),
        (b"for=192.0.2.1;Host=a.example;by=_x;PROTO=https", b"host=a.example;proto=https"),
        (b'for="[2001:db8::1]:80"; host="a.example:8080"', b'host="a.example:8080"'),
        (b"host=a.example:8080", b"host=a.example:8080"),
        (b"for=1, host=a;proto=http ,for=2", b",host=a;proto=http,"),
        (b'host="a,for=1;host=b"', b'host="a,for=1;host=b"'),
        (rb'host="a\"b"', rb'host="a\"b"'),
        (b"host=", b"host="),
        (b";host=a;", b"host=a"),
        (b"secret=x;proto=https", b"proto=https"),
    ],
)
def test_of_forwarded_only_host_and_proto_are_keyed(value: bytes, kept: bytes) -> None:
    assert routing_parts([(b"forwarded", value)]) == (b"forwarded", kept)


@pytest.mark.parametrize("value", [b"", b"for=192.0.2.1", b'for=192.0.2.1;by="_x", For="[::1]"', b", ,"])
def test_clients_are_not_told_apart_by_their_address(value: bytes) -> None:
    assert routing_parts([(b"forwarded", value)]) == ()


@pytest.mark.parametrize(
    "value",
    [
        b"nonsense",
        b"host = a",
        b'host="a',
        b'host=a"b"',
        b"for=1 host=a",
        b'for="1,host=evil"',  # a parser that splits at commas sees host=evil
        b'for="1;host=evil"',
        b'for="\\";host=evil"',
        b"for=x=y",
        b"host=a\x00;=",
    ],
)
def test_a_forwarded_that_could_be_read_in_two_ways_is_keyed_whole(value: bytes) -> None:
    assert routing_parts([(b"forwarded", value)]) == (b"forwarded", value)


def test_every_line_of_forwarded_keeps_its_place() -> None:
    lines = [(b"forwarded", b"for=1"), (b"forwarded", b"host=a"), (b"x-rewrite-url", b"/b")]
    assert routing_parts(lines) == (b"forwarded", b"", b"forwarded", b"host=a", b"x-rewrite-url", b"/b")
    assert routing_parts(lines[1:]) != routing_parts(lines)


def test_the_names_are_lower_case_as_asgi_has_them() -> None:
    names = CREDENTIALS | CONDITIONALS | ROUTING
    assert names == {name.lower() for name in names}


# --- RFC 9111, 4.1: variants -------------------------------------------------------------------------------


def test_an_absent_header_selects_another_variant_than_an_empty_one() -> None:
    values = {
        vary_value(b"x-a", []),
        vary_value(b"x-a", [(b"x-a", b"")]),
        vary_value(b"x-a", [(b"x-a", b"absent")]),
        vary_value(b"x-a", [(b"x-b", b"1")]),
    }
    assert len(values) == 3


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (b"x-a", [b"a  b"], [b" a\tb "]),
        (b"x-a", [b"a, b"], [b"a", b"b"]),
        (b"accept-encoding", [b"gzip, br;q=0.5"], [b"gzip,br ; q=0.5"]),
        (b"accept-language", [b"de", b"en"], [b"de,en"]),
        (b"accept-language", [b"de, en;q=0.5, en;q=0.5"], [b"EN;Q=0.500 , De;q=1.0"]),
        (b"accept-language", [b"en, de"], [b"de, en"]),
        (b"accept-language", [b"no list!"], [b"No List!"]),
    ],
)
def test_blanks_that_mean_nothing_select_the_same_variant(name: bytes, one: list[bytes], other: list[bytes]) -> None:
    first, second = ([(name, value) for value in values] for values in (one, other))
    assert vary_value(name, first) == vary_value(name, second)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (b"x-a", b"a,b", b"a, b"),  # not known to be a list
        (b"x-a", b"A", b"a"),
        (b"accept", b'a;b="c  d"', b'a;b="c d"'),
        (b"accept", b"a, b", b"b, a"),
        (b"accept-language", b"de, en;q=0.5", b"en, de;q=0.5"),
        (b"accept-language", b"de;q=0.5", b"de;q=5"),
    ],
)
def test_what_may_mean_something_selects_another_variant(name: bytes, one: bytes, other: bytes) -> None:
    assert vary_value(name, [(name, one)]) != vary_value(name, [(name, other)])


# --- RFC 9110, 13.1: conditional requests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "etag"),
    [
        ([b'"a"'], b'"a"'),
        ([b'W/"a"'], b'"a"'),  # weak comparison
        ([b'"a"'], b'W/"a"'),
        ([b'"x" , W/"y",, "a"'], b'"a"'),
        ([b'"x"', b'"a"'], b'"a"'),
        ([b'"a,b"'], b'"a,b"'),
        ([b'""'], b'""'),
        ([b'"\xe9"'], b' "\xe9" '),
        ([b" * "], b'"a"'),
        ([b"*"], None),
    ],
)
def test_a_client_that_has_the_answer_is_told_so(condition: list[bytes], etag: bytes | None) -> None:
    request = [(b"if-none-match", value) for value in condition]
    stored = ((b"etag", etag),) if etag is not None else ()
    assert not_modified(request, 200, stored)
    assert not_modified([(b"accept", b"*/*"), *request], 203, stored)
    for status in (103, 300, 404):  # 13.2.1: conditions count for a success only
        assert not not_modified(request, status, stored)


@pytest.mark.parametrize(
    ("condition", "etags"),
    [
        (b'"b"', [b'"a"']),
        (b'"A"', [b'"a"']),
        (b"a", [b"a"]),
        (b'w/"a"', [b'"a"']),
        (b'*, "a"', [b'"a"']),
        (b'"a" "b"', [b'"a"']),
        (b'x"a"', [b'"a"']),
        (b'"a', [b'"a"']),
        (b'"a"', []),
        (b'"a"', [b'"a"', b'"a"']),
        (b'"a"', [b'"a", "b"']),
        (b"", [b'"a"']),
    ],
)
def test_in_doubt_the_whole_answer_is_sent(condition: bytes, etags: list[bytes]) -> None:
    assert not not_modified([(b"if-none-match", condition)], 200, tuple((b"etag", etag) for etag in etags))


def test_an_entity_tag_beats_a_date() -> None:  # 13.1.3
    stored = ((b"etag", b'"a"'), (b"last-modified", DATE))
    assert not not_modified([(b"if-none-match", b'"b"'), (b"if-modified-since", DATE)], 200, stored)
    assert not_modified([(b"if-modified-since", HOUR_BEFORE), (b"if-none-match", b'"a"')], 200, stored)


@pytest.mark.parametrize(
    ("since", "modified", "same"),
    [
        ([DATE], [DATE], True),
        ([HOUR_LATER], [DATE], True),
        ([b"Sunday, 06-Nov-94 08:49:37 GMT"], [DATE], True),
        ([HOUR_BEFORE], [DATE], False),
        ([DATE, DATE], [DATE], False),
        ([DATE], [DATE, DATE], False),
        ([DATE], [], False),
        ([b"yesterday"], [DATE], False),
        ([DATE], [b"yesterday"], False),
    ],
)
def test_a_date_counts_if_it_is_one_valid_date(since: list[bytes], modified: list[bytes], same: bool) -> None:
    request = [(b"if-modified-since", value) for value in since]
    stored = tuple((b"last-modified", value) for value in modified)
    assert not_modified(request, 200, stored) is same
    assert not not_modified(request, 203, stored)


def test_conditions_that_only_the_origin_can_judge_are_not_judged_here() -> None:
    stored = ((b"etag", b'"a"'), (b"last-modified", DATE))
    for name, value in ((b"if-match", b'"a"'), (b"if-unmodified-since", DATE)):
        assert precondition([(b"accept", b"*/*"), (name, value)])
        assert not not_modified([(name, value)], 200, stored)
    for name, value in ((b"if-range", b'"a"'), (b"if-none-match", b'"a"'), (b"if-modified-since", DATE)):
        assert not precondition([(name, value)])
    assert not not_modified([(b"if-range", b'"a"')], 200, stored)
    assert not not_modified([], 200, stored)


def test_a_304_repeats_what_it_must_and_nothing_else() -> None:  # 15.4.5
    kept: Headers = (
        (b"cache-control", b"max-age=60"),
        (b"content-location", b"/a"),
        (b"date", DATE),
        (b"etag", b'"a"'),
        (b"expires", HOUR_LATER),
        (b"vary", b"accept"),
        (b"vary", b"origin"),
    )
    others: Headers = ((b"content-type", b"text/plain"), (b"content-length", b"3"), (b"last-modified", DATE))
    assert not_modified_headers((*others, *kept)) == kept


# --- RFC 9211: Cache-Status --------------------------------------------------------------------------------


def test_each_outcome_is_spelled_as_the_table_says() -> None:
    assert cache_status.hit(12) == b"glasscache; hit; ttl=12"
    assert cache_status.hit(0.9) == b"glasscache; hit; ttl=0"
    assert cache_status.stale(-3, "revalidating") == b"glasscache; hit; ttl=-3; detail=revalidating"
    assert cache_status.stale(-0.2, "wait_timeout") == b"glasscache; hit; ttl=-1; detail=wait_timeout"
    assert cache_status.miss(stored=True) == b"glasscache; fwd=uri-miss; stored"
    assert cache_status.miss(stored=False, fwd="vary-miss") == b"glasscache; fwd=vary-miss"
    assert cache_status.miss(stored=False, detail="set_cookie") == b"glasscache; fwd=uri-miss; detail=set_cookie"
    assert cache_status.miss(stored=True, fwd="stale") == b"glasscache; fwd=stale; stored"
    assert cache_status.collapsed() == b"glasscache; fwd=uri-miss; collapsed"
    assert cache_status.bypass() == b"glasscache; fwd=bypass"
    assert cache_status.bypass("credentials") == b"glasscache; fwd=bypass; detail=credentials"
    assert cache_status.bypass("method", fwd="method") == b"glasscache; fwd=method; detail=method"


@pytest.mark.parametrize(
    ("detail", "spelled"),
    [
        ("unkeyed_field", b"unkeyed_field"),
        ("a:b/c", b"a:b/c"),
        ("*", b"*"),
        ("1st", b'"1st"'),
        ("two words", b'"two words"'),
        ('say "no"\\', rb'"say \"no\"\\"'),
        ("zu gro\u00df\r\nX: y", b'"zu gro???X: y"'),
    ],
)
def test_a_detail_is_a_token_or_else_a_string(detail: str, spelled: bytes) -> None:  # RFC 9651, 3.3.3 and 3.3.4
    assert cache_status.bypass(detail) == b"glasscache; fwd=bypass; detail=" + spelled
