"""Which header fields cross the proxy, and what it adds."""

from __future__ import annotations

from typing import Any

import pytest

from glasscache.proxy import _fields
from glasscache.proxy._head import HeadFilter
from tests.support.asgi import Scope

Fields = list[tuple[bytes, bytes]]
AUTHORITY = b"origin:9000"


def request(*fields: tuple[bytes, bytes], **scope: Any) -> Scope:
    return {"headers": list(fields), "scheme": "https", "client": ("192.0.2.7", 1234), "http_version": "1.1", **scope}


def sent(scope: Scope, *, keep_host: bool = False, trust: bool = False) -> Fields:
    return _fields.to_upstream(scope, AUTHORITY, keep_host=keep_host, trust=trust)


def values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for known, value in fields if known == name]


def test_what_belongs_to_one_connection_is_dropped_and_all_else_keeps_its_order_and_repetitions() -> None:
    fields = [
        (b"Connection", b"close, X-Mine"),
        (b"X-Mine", b"1"),
        (b"X-A", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-B", b"2"),
        (b"TE", b"trailers"),
        (b"X-A", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"Basic eA=="),
        (b"Trailer", b"X-T"),
    ]
    assert _fields.end_to_end(fields) == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
    kept = _fields.end_to_end(fields, keep=frozenset({b"transfer-encoding"}))
    assert (b"transfer-encoding", b"chunked") in kept


@pytest.mark.parametrize("name", [b"cache-control", b"set-cookie", b"authorization", b"vary", b"host", b"date"])
def test_a_connection_header_cannot_take_away_what_a_message_is_about(name: bytes) -> None:
    assert (name, b"x") in _fields.end_to_end([(b"connection", name), (name, b"x")])


def test_the_upstream_learns_who_asked_for_what_and_gets_its_own_host() -> None:
    fields = sent(request((b"host", b"shop.example"), (b"accept", b"*/*")))
    assert fields == [
        (b"host", AUTHORITY),
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-host", b"shop.example"),
        (b"x-forwarded-proto", b"https"),
        (b"surrogate-capability", b'glasscache="Surrogate/1.0"'),
        (b"via", b"1.1 glasscache"),
    ]
    assert values(sent(request((b"host", b"shop.example")), keep_host=True), b"host") == [b"shop.example"]


def test_a_client_that_sends_no_host_and_has_no_address_is_no_reason_to_fail() -> None:
    fields = sent(request(client=None), keep_host=True)
    assert (values(fields, b"host"), values(fields, b"x-forwarded-for")) == ([AUTHORITY], [])


CLAIMS = (
    (b"x-forwarded-for", b"203.0.113.1"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-proto", b"http"),
    (b"forwarded", b"for=203.0.113.1"),
    (b"x-real-ip", b"203.0.113.1"),
)


def test_what_a_client_says_of_itself_is_not_believed() -> None:
    fields = sent(request((b"host", b"shop.example"), *CLAIMS))
    assert values(fields, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(fields, b"x-forwarded-host") == [b"shop.example"]
    assert values(fields, b"x-forwarded-proto") == [b"https"]
    assert values(fields, b"forwarded") == values(fields, b"x-real-ip") == []


def test_what_a_trusted_proxy_says_is_passed_on_and_added_to() -> None:
    fields = sent(request((b"host", b"shop.example"), *CLAIMS), trust=True)
    assert values(fields, b"x-forwarded-for") == [b"203.0.113.1, 192.0.2.7"]
    assert values(fields, b"x-forwarded-host") == [b"evil.example"]
    assert values(fields, b"x-forwarded-proto") == [b"http"]
    assert values(fields, b"forwarded") == [b"for=203.0.113.1"]


def test_the_way_of_a_message_is_written_down() -> None:
    fields = sent(request((b"via", b"1.0 edge"), (b"via", b"1.1 inner"), http_version="2"))
    assert values(fields, b"via") == [b"1.0 edge, 1.1 inner, 2 glasscache"]


def test_a_request_that_has_come_through_us_again_and_again_is_a_loop() -> None:
    once, often = b"1.1 glasscache", b", ".join([b"1.1 glasscache"] * _fields.MAX_HOPS)
    assert not _fields.loops(request((b"via", once), (b"via", b"1.1 other, nonsense")))
    assert _fields.loops(request((b"via", often)))


def test_an_answer_keeps_its_date_and_gets_one_if_it_has_none() -> None:
    date = (b"date", b"Tue, 14 Nov 2023 22:13:20 GMT")
    kept = _fields.to_client(200, [(b"Date", b"yesterday"), (b"X-A", b"1")], b"1.1", 1_700_000_000.5)
    assert kept == ((b"date", b"yesterday"), (b"x-a", b"1"), (b"via", b"1.1 glasscache"))
    assert _fields.to_client(200, [], b"1.0", 1_700_000_000.5) == (date, (b"via", b"1.0 glasscache"))


def test_an_answer_without_content_has_no_length() -> None:
    for status, expected in ((200, [b"5"]), (204, []), (304, [])):
        fields = _fields.to_client(status, [(b"content-length", b"5")], b"1.1", 0.0)
        assert values(list(fields), b"content-length") == expected


def test_a_body_is_framed_on_its_way_on_as_it_was_on_its_way_here() -> None:
    assert _fields.framing(request((b"transfer-encoding", b"chunked"))) == [(b"transfer-encoding", b"chunked")]
    assert _fields.framing(request((b"content-length", b"5"))) == []
    assert _fields.framing(request((b"content-length", b"0"))) is None
    assert _fields.framing(request()) is None
    both = sent(request((b"transfer-encoding", b"chunked"), (b"content-length", b"5")))
    assert values(both, b"content-length") == []


def test_a_head_that_comes_in_pieces_is_read_when_it_is_whole() -> None:
    head = HeadFilter(100)
    assert [head.take(b"HTTP/1.1 200 OK\r\nTransfer-Enc"), head.take(b"oding: Odd\r\nX-A: 1\r\n")] == [b"", b""]
    assert head.take(b"\r\nbody") == b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nbody"
    assert head.take(b"Transfer-Encoding: odd\r\n\r\n") == b"Transfer-Encoding: odd\r\n\r\n"  # that is content


def test_what_never_becomes_a_head_goes_on_as_it_is() -> None:
    assert HeadFilter(100).take(b"x" * 101) == b"x" * 101
    head = HeadFilter(100)
    assert [head.take(b"Transfer-Encoding: odd\r\n"), head.take(b"")] == [b"", b"Transfer-Encoding: odd\r\n"]


@pytest.mark.parametrize("coding", ["chunked", "gzip", "GZIP, chunked", "x-gzip", "odd, chunked", "odd;q=1"])
def test_a_coding_that_would_have_to_be_decoded_is_left_to_be_refused(coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n".encode()
    assert HeadFilter(100).take(head) == head
