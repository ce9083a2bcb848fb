"""A filter before h11, which refuses every transfer coding but chunked, also those that mean nothing.

Decides one thing: a single coding that nobody has registered, or `identity` (RFC 2616), is taken out of the response's
head; the body is then what comes until the connection ends (RFC 9112, section 6.3, rule 4). A registered coding would
have to be decoded: it is left for h11 to refuse, and so is a coding beside a length, or a second one. Must never change
anything else.
"""

from __future__ import annotations

import re

_END = re.compile(rb"\r?\n\r?\n")
_CODING = re.compile(rb"^transfer-encoding:[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)
_FRAMING = re.compile(rb"^(?:transfer-encoding|content-length)[ \t]*:", re.IGNORECASE | re.MULTILINE)

# IANA's HTTP Transfer Coding Registry
_REGISTERED = frozenset({b"chunked", b"compress", b"deflate", b"gzip", b"trailers", b"x-compress", b"x-gzip"})


class HeadFilter:
    """Holds back what has come of one answer until its (first) head is whole; at most `most` bytes, which then go on as
    they are, like all that follows.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = b""
        self._is_over = False

    def take(self, data: bytes) -> bytes:
        """What h11 gets now that this has come; b"" is the end."""
        if self._is_over:
            return data
        self._held += data
        end = _END.search(self._held)
        self._is_over = end is not None or not data or len(self._held) > self._most
        if end is not None:
            return _plain(self._held[: end.end()]) + self._held[end.end() :]
        return self._held if self._is_over else b""


def _plain(head: bytes) -> bytes:
    coding = _CODING.search(head)
    if coding is None or coding[1].lower() in _REGISTERED or len(_FRAMING.findall(head)) > 1:
        return head
    return head[: coding.start()] + head[coding.end() :]
