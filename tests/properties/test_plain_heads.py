"""An answer whose head says nothing to a cache is taken for one without any header: that must be true of all such."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glasscache._entry import Headers
from glasscache.asgi import http
from glasscache.policy import Policy

POLICY = Policy(ttl=60.0, stale_while_revalidate=5.0, negative_ttl=1.0)

SAID = b"""age cache-control cache-groups cache-tag cdn-cache-control clear-site-data connection glasscache-control
set-cookie surrogate-control surrogate-key trailer vary access-control-allow-origin x-request-id""".split()
"""Names that mean something to a cache, ..."""
UNSAID = b"content-length content-type date etag expires last-modified link location retry-after server x-a".split()
"""... and some that do not under a rule with a ttl."""
VALUES = [b"", b"*", b"1", b"no-store", b"private, max-age=0", b"a, b", b'"g"', b"https://a.example", b"x-a"]

fields = st.tuples(st.sampled_from([*SAID, *UNSAID, b"Vary", b"X-Other"]), st.sampled_from(VALUES))


def assessed(headers: Headers) -> http.Assessment:
    return http.assess(200, headers, ttl=60.0, policy=POLICY, statuses=None, now_wall=1e9)


@given(st.lists(fields, max_size=6))
def test_a_head_that_says_nothing_is_stored_whole_and_on_the_same_terms_as_none(raw: list[tuple[bytes, bytes]]) -> None:
    headers, length, says_something = http.head_of(raw)
    assert headers == http.normalise(raw)
    assert length == http.content_length(headers)
    assert says_something == any(name.lower() in SAID for name, _ in raw)
    if not says_something:
        assert assessed(headers) == assessed(())
        assert http.storable_headers(headers) == headers
        assert http.tags(headers) == http.groups({"headers": []}, headers, b"cache-groups") == ()
