"""An answer whose head says nothing to a cache is taken for one without any header: that must be true of all such."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache._entry import Headers
from glasscache._gate import Gate
from glasscache.asgi import Rule, _http
from glasscache.asgi._fields import content_length
from glasscache.asgi._origin import Origin
from glasscache.asgi._why import Hints
from glasscache.asgi.types import Receive, Scope, Send
from glasscache.policy import Policy, Share, Terms
from glasscache.testing import ManualClock, entry

POLICY = Policy(ttl=60.0, stale_while_revalidate=5.0, negative_ttl=1.0)

SAID = b"""age cache-control cache-groups cache-tag cdn-cache-control clear-site-data connection glasscache-control
set-cookie surrogate-control surrogate-key trailer vary access-control-allow-origin x-request-id""".split()
"""Names that mean something to a cache, ..."""
UNSAID = b"content-length content-type date etag expires last-modified link location retry-after server x-a".split()
"""... and some that do not under a rule with a ttl."""
VALUES = [b"", b"*", b"1", b"no-store", b"private, max-age=0", b"a, b", b'"g"', b"https://a.example", b"x-a"]

fields = st.tuples(st.sampled_from([*SAID, *UNSAID, b"Vary", b"X-Other"]), st.sampled_from(VALUES))


def assessed(headers: Headers) -> _http.Assessment:
    return _http.assess(200, headers, ttl=60.0, policy=POLICY, statuses=None, now_wall=1e9)


@given(st.lists(fields, max_size=6))
def test_a_head_that_says_nothing_is_stored_whole_and_on_the_same_terms_as_none(raw: list[tuple[bytes, bytes]]) -> None:
    headers, length, says_something = _http.head_of(raw)
    assert headers == _http.normalise(raw)
    assert length == content_length(headers)
    assert says_something == any(name.lower() in SAID for name, _ in raw)
    if not says_something:
        assert assessed(headers) == assessed(())
        assert _http.storable_headers(headers) == headers
        assert _http.tags(headers) == _http.groups({"headers": []}, headers, b"cache-groups") == ()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


def origin(rule: Rule) -> Origin:
    return Origin(
        app=app,
        rule=rule,
        policy=POLICY,
        gate=Gate(None),
        clock=ManualClock(),
        credentials=frozenset(),
        statuses=None,
        hints=Hints(rule),
    )


ORIGINS = [origin(Rule("/a", ttl=60.0, tags=("a",))), origin(Rule("/a", ttl=60.0, etag=True)), origin(Rule("/a"))]


@given(st.lists(fields, max_size=6), st.sampled_from(ORIGINS), st.booleans())
def test_a_head_is_taken_for_plain_alike_whether_or_not_it_is_known(
    raw: list[tuple[bytes, bytes]], asked: Origin, as_lists: bool
) -> None:
    headers, length, says_something = _http.head_of(raw)
    for _ in range(2):
        plain = asked.plain(tuple(map(list, raw)) if as_lists else tuple(raw))
        lacks_tag = asked.rule.etag and all(name != b"etag" for name, _ in headers)
        assert (plain is None) == (says_something or asked.rule.ttl is None or lacks_tag)
        if plain is not None:
            assert (plain.head.status, plain.head.headers, plain.head.own_headers) == (200, headers, headers)
            assert (plain.head.share, plain.head.vary, plain.head.reason) == (Share.ALL, (), "")
            tags = ("a",) if asked is ORIGINS[0] else ()
            assert plain.head.terms == Terms(ttl=60.0, stale_while_revalidate=5.0, tags=tags)
            assert plain.length == length


def test_heads_that_come_again_are_remembered_and_others_are_not() -> None:
    asked = origin(Rule("/a", ttl=60.0))

    def stored(field: tuple[bytes, bytes]) -> None:
        plain = asked.plain((field,))
        assert plain is not None
        assert plain.head.headers == (field,)
        entry(headers=plain.head.headers)

    for number in range(500):
        stored((b"x", b"once %d" % number))
    assert not asked._known
    for number in range(2000):
        for _ in range(4):
            stored((b"x", b"again %d" % number))
            stored((b"x", b"long" * 20))
    assert 0 < len(asked._known) <= 1024
    assert ((b"x", b"long" * 20),) not in asked._known
    for _ in range(2):
        with pytest.raises(TypeError, match="has to be bytes"):
            asked.plain(((b"x", "text"),))
