"""The rules an ASGI app owes its server (ASGI 3, HTTP spec 2.4), as a state table checked message by message.

Decides: whether a message may come now, and whether its content is well-formed.
Never: forgets a breach. `sending` raises it in the app; `check` raises the first one again in the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

# state of the response -> the messages that may come in it
_ALLOWED: dict[str, frozenset[str]] = {
    "new": frozenset({"http.response.start", "http.response.push", "http.response.early_hint", "http.response.debug"}),
    "started": frozenset(
        {"http.response.body", "http.response.pathsend", "http.response.zerocopysend", "http.response.push"}
    ),
    "trailing": frozenset({"http.response.trailers"}),
    "complete": frozenset(),
}
_CORE = frozenset({"http.response.start", "http.response.body"})
_BODYLESS = frozenset({204, 304})


class ProtocolRules:
    """Checks one exchange. `extensions` are those the scope offers; a message of another one is a breach."""

    def __init__(self, method: str, extensions: Mapping[str, Any], *, strict_length: bool = True) -> None:
        self._method = method
        self._extensions = extensions
        self._strict_length = strict_length
        self._state = "new"
        self._trailers = False
        self._expected: int | None = None
        self._length = 0
        self._receiving = False
        self._breach: str | None = None

    @property
    def complete(self) -> bool:
        """True once the response's last message was sent."""
        return self._state == "complete"

    def check(self) -> None:
        """Raise the first breach, if there was one."""
        if self._breach is not None:
            raise AssertionError(self._breach)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Hold while the app is inside `receive`: two at once would share out the request's messages by luck."""
        self._require(not self._receiving, "receive was called while another call was waiting")
        self._receiving = True
        try:
            yield
        finally:
            self._receiving = False

    def sending(self, message: MutableMapping[str, Any]) -> None:
        """Check a message that the app sends and move on."""
        kind = message.get("type")
        self._require(isinstance(kind, str), f"a message without a type: {message!r}")
        self._require(kind in _ALLOWED[self._state], f"{kind} was sent when the response was {self._state}")
        self._require(kind in _CORE or kind in self._extensions, f"{kind} is not among the scope's extensions")
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            self._body(message)
        elif kind == "http.response.zerocopysend":
            self._advance(bool(message.get("more_body", False)))
        elif kind == "http.response.pathsend":
            self._advance(False)
        elif kind == "http.response.trailers":
            self._pairs(message.get("headers", ()))
            self._state = "trailing" if message.get("more_trailers", False) else "complete"

    def returned(self, *, disconnected: bool) -> None:
        """Check that an app which returned had finished its response, or had lost its client."""
        self._require(self.complete or disconnected, f"the app returned when the response was {self._state}")

    def _start(self, message: MutableMapping[str, Any]) -> None:
        status = message.get("status")
        self._require(type(status) is int and 200 <= status <= 999, f"status {status!r} is no final status code")
        pairs = self._pairs(message.get("headers", ()))
        lengths = {value for name, value in pairs if name == b"content-length"}
        self._require(len(lengths) <= 1, f"several Content-Lengths: {lengths}")
        if self._strict_length and self._method != "HEAD" and status not in _BODYLESS:
            for length in lengths:
                self._require(length.isdigit(), f"Content-Length {length!r} is no number")
                self._expected = int(length)
        message.setdefault("headers", [])
        self._trailers = bool(message.get("trailers", False))
        self._state = "started"

    def _body(self, message: MutableMapping[str, Any]) -> None:
        body = message.get("body", b"")
        self._require(isinstance(body, bytes), f"a body of {type(body).__name__}, not bytes")
        self._length += len(body)
        more = bool(message.get("more_body", False))
        if self._expected is not None:
            self._require(self._length <= self._expected, "the body is longer than its Content-Length")
            self._require(more or self._length == self._expected, "the body is shorter than its Content-Length")
        self._advance(more)

    def _advance(self, more: bool) -> None:
        if not more:
            self._state = "trailing" if self._trailers else "complete"

    def _pairs(self, headers: Any) -> list[tuple[bytes, bytes]]:
        pairs = [tuple(pair) for pair in headers]
        for pair in pairs:
            well_formed = len(pair) == 2 and all(isinstance(part, bytes) for part in pair)
            self._require(well_formed, f"header {pair!r} is no pair of bytes")
            name, value = pair
            self._require(bool(name) and name == name.lower(), f"header name {name!r} is empty or not lower-case")
            self._require(not set(name + value) & set(b"\r\n\0"), f"header {pair!r} holds a control character")
        return pairs

    def _require(self, holds: bool, breach: str) -> None:
        if not holds:
            self._breach = self._breach or breach
            raise AssertionError(self._breach)
