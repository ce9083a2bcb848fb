"""A shared HTTP cache written from RFC 9111, slow and obvious: what the middleware is compared with.

Shares no code with glasscache. One request at a time, one path and one set of selecting header fields per stored
response, and every rule in the order of the RFC's sections. Where the RFC leaves a choice, the choice of docs/http.md
is made here again, in other words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime

Fields = tuple[tuple[str, str], ...]
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Response:
    """A response message."""

    status: int
    fields: Fields
    body: str = ""

    def get(self, name: str) -> str | None:
        values = [value for field, value in self.fields if field == name]
        return ", ".join(values) if values else None


@dataclass(frozen=True)
class Stored:
    """A stored response, and when it was received."""

    response: Response
    received: float
    wall: float


class Unreachable(Exception):
    """There was no response."""


class Failed(Exception):
    """The origin broke down."""


Origin = Callable[[str, str, Mapping[str, str]], Response]
"""(method, path, header fields) -> response; raises Unreachable or Failed."""


def when(date: str | None) -> float | None:
    """Section 5.6.7 of RFC 9110, for the dates that these tests send."""
    if date is None:
        return None
    try:
        parsed = parsedate_to_datetime(date)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC).timestamp()


def seconds(value: str | None) -> int | None:
    """Section 1.2.2."""
    return int(value) if value is not None and value.isdigit() else None


def directives(value: str | None) -> dict[str, str | None]:
    """Section 5.2. A quoted argument may hold commas."""
    said: dict[str, str | None] = {}
    quoted, parts = False, [""]
    for char in value or "":
        quoted ^= char == '"'
        if char == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += char
    for part in filter(None, (part.strip() for part in parts)):
        name, equals, argument = part.partition("=")
        said[name.lower()] = argument.strip('"') if equals else None
    return said


def said_to_us(response: Response) -> tuple[dict[str, str | None], bool]:
    """RFC 9213: a targeted field that is well-formed and not empty stands in for Cache-Control and Expires."""
    targeted = response.get("cdn-cache-control")
    if targeted and "&" not in targeted:
        return directives(targeted), True
    return directives(response.get("cache-control")), False


def qualified(said: Mapping[str, str | None], name: str) -> set[str]:
    """Sections 5.2.2.4 and 5.2.2.7: the fields that the directive is about."""
    return {field.strip() for field in (said.get(name) or "").split(",")} - {""}


def lifetime(stored: Stored) -> float | None:
    """Section 4.2.1, and 4.2.2 where nothing is said."""
    response = stored.response
    said, is_targeted = said_to_us(response)
    if "no-cache" in said and not qualified(said, "no-cache"):
        return 0
    for name in ("s-maxage", "max-age"):
        if name in said:
            return seconds(said[name]) or 0
    date = when(response.get("date"))
    date = stored.wall if date is None else date
    if not is_targeted and response.get("expires") is not None:
        expires = when(response.get("expires"))
        return 0 if expires is None else max(0, expires - date)
    modified = when(response.get("last-modified"))
    may_guess = response.status in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501) or "public" in said
    if modified is not None and modified <= date and may_guess:
        return min(DAY, (date - modified) / 10)
    return None


def initial_age(stored: Stored) -> float:
    """Section 4.2.3; nothing delays a response here. Of unknown age is what nobody may take for fresh."""
    date = when(stored.response.get("date"))
    apparent = 0.0 if date is None else max(0.0, math.floor(stored.wall) - date)
    said = (stored.response.get("age") or "").split(",")[0].strip()
    told: float | None = seconds(said)
    if said and told is None:
        told = lifetime(stored)
    return max(apparent, told or 0)


def has_validator(response: Response) -> bool:
    """Section 4.3.1."""
    return response.get("etag") is not None or when(response.get("last-modified")) is not None


def may_be_stale(response: Response) -> bool:
    """Section 4.2.4, what forbids it; and a failure is no answer to stand in for another."""
    said, _ = said_to_us(response)
    return response.status < 500 and not {"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"} & set(said)


def is_storable(stored: Stored, has_credentials: bool) -> bool:
    """Section 3."""
    response = stored.response
    said, _ = said_to_us(response)
    understood = response.status in (200, 203, 204, 301, 404, 410, 500, 503)
    if "no-store" in said and not ("must-understand" in said and understood):
        return False
    if "must-understand" in said and not understood:
        return False
    if "private" in said and not qualified(said, "private"):
        return False
    if has_credentials and not {"public", "must-revalidate", "s-maxage"} & set(said):
        return False
    if response.status in (206, 304, 401, 429) or response.get("set-cookie") or response.get("vary") == "*":
        return False
    fresh_for = lifetime(stored)
    if fresh_for is None:
        return False
    if fresh_for > initial_age(stored):
        return True
    windows = max(window(response, "stale-while-revalidate"), window(response, "stale-if-error"))
    return has_validator(response) or fresh_for + windows > initial_age(stored)


def window(response: Response, name: str) -> float:
    """RFC 5861."""
    said, _ = said_to_us(response)
    return (seconds(said.get(name)) or 0) if may_be_stale(response) else 0


def kept_fields(response: Response) -> Response:
    """Section 3.1, and the fields that are named to be for one reader."""
    said, _ = said_to_us(response)
    dropped = qualified(said, "private") | qualified(said, "no-cache") | {"age"}
    return replace(response, fields=tuple(field for field in response.fields if field[0] not in dropped))


class Cache:
    """The cache. `ask` answers one request; `refresh` is what a stale answer set off behind it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._stored: dict[tuple[str, str], Stored] = {}
        self.refresh: Callable[[float, float], None] | None = None

    def ask(self, method: str, path: str, fields: Mapping[str, str], now: float, wall: float) -> Response:
        """One response. Raises what the origin raises."""
        self.refresh = None
        if method not in ("GET", "HEAD"):
            return self._change(method, path, fields)
        asked = directives(fields.get("cache-control"))
        if "no-store" in asked:
            return self._origin(method, path, fields)
        return self._read(method, path, fields, asked, now, wall)

    def _read(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        asked: Mapping[str, str | None],
        now: float,
        wall: float,
    ) -> Response:
        key = (path, self._selected(path, fields))
        stored = self._stored.get(key)
        if stored is not None and self._is_dead(stored, now):
            stored = None
        verdict = "none" if stored is None else self._verdict(stored, asked, now)
        only = "only-if-cached" in asked or method == "HEAD" or "range" in fields
        if stored is not None and verdict == "fresh":
            return self._from(stored, method, fields, now)
        if "only-if-cached" in asked:
            return Response(504, ())
        if only:
            response = self._origin(method, path, fields)
            if method == "HEAD" and stored is not None:
                self._learn(key, stored, response, fields, now, wall)
            return response
        if stored is not None and verdict == "stale":
            self.refresh = lambda now, wall: self._refresh(key, path, fields, now, wall)
            return self._from(stored, method, fields, now)
        return self._load(key, path, fields, now, wall, stored, verdict == "unwanted")

    # --- section 4: may it be used? ------------------------------------------------------------------------------

    def _verdict(self, stored: Stored, asked: Mapping[str, str | None], now: float) -> str:
        response = stored.response
        age = now - stored.received + initial_age(stored)
        left = (lifetime(stored) or 0) - age
        wants_less = "no-cache" in asked or ("max-age" in asked and age > (seconds(asked["max-age"]) or 0))
        if left > 0:
            return "unwanted" if wants_less or left < (seconds(asked.get("min-fresh")) or 0) else "fresh"
        if wants_less:
            return "unwanted"
        if -left < window(response, "stale-while-revalidate"):
            return "stale"
        if "max-stale" in asked and may_be_stale(response) and self._arrived_fresh(stored):
            limit = seconds(asked["max-stale"]) if asked["max-stale"] is not None else 2**31
            if -left <= (limit or 0):
                return "stale"
        return "old"

    def _arrived_fresh(self, stored: Stored) -> bool:
        return (lifetime(stored) or 0) > initial_age(stored) or window(stored.response, "stale-while-revalidate") > 0

    def _is_dead(self, stored: Stored, now: float) -> bool:
        """A day after its freshness, or where nothing could come of it."""
        response = stored.response
        past = now - stored.received + initial_age(stored) - (lifetime(stored) or 0)
        stands_in = may_be_stale(response) and (lifetime(stored) or 0) > initial_age(stored)
        kept = DAY if has_validator(response) or stands_in else 0
        return past >= max(kept, window(response, "stale-while-revalidate"), window(response, "stale-if-error"))

    def _stands_in(self, stored: Stored | None, now: float, *, unreachable: bool) -> bool:
        if stored is None or self._is_dead(stored, now):
            return False
        past = now - stored.received + initial_age(stored) - (lifetime(stored) or 0)
        response = stored.response
        if past < max(window(response, "stale-while-revalidate"), window(response, "stale-if-error")):
            return True
        return unreachable and may_be_stale(response) and (lifetime(stored) or 0) > initial_age(stored)

    # --- section 4.3: ask the origin -----------------------------------------------------------------------------

    def _load(
        self,
        key: tuple[str, str],
        path: str,
        fields: Mapping[str, str],
        now: float,
        wall: float,
        stored: Stored | None,
        is_unwanted: bool,
    ) -> Response:
        stand_in = None if is_unwanted else stored
        sent = self._conditional(fields, stored)
        try:
            response = self._origin("GET", path, sent)
        except (Unreachable, Failed) as error:
            if stand_in is not None and self._stands_in(stand_in, now, unreachable=isinstance(error, Unreachable)):
                return self._from(stand_in, "GET", fields, now)
            raise
        if response.status >= 500 and stand_in is not None and self._stands_in(stand_in, now, unreachable=False):
            return self._from(stand_in, "GET", fields, now)
        if response.status == 304 and stored is not None:
            response = self._freshened(stored.response, response)
        received = Stored(response, now, wall)
        if not is_storable(received, bool({"authorization", "cookie"} & set(fields))):
            return response
        self._stored[key] = self._with_age(Stored(kept_fields(response), now, wall), response)
        return self._checked(response, fields, self._stored[key].response)

    def _conditional(self, fields: Mapping[str, str], stored: Stored | None) -> dict[str, str]:
        """Section 4.3.1: the client's conditions are ours to judge, the origin gets those of what is stored."""
        sent = {name: value for name, value in fields.items() if name not in ("if-none-match", "if-modified-since")}
        validators = {"if-none-match": "etag", "if-modified-since": "last-modified"}
        for condition, validator in validators.items():
            value = None if stored is None else stored.response.get(validator)
            if value is not None:
                sent[condition] = value
        return sent

    def _with_age(self, stored: Stored, response: Response) -> Stored:
        """The age that it came with counts, though the field is not passed on."""
        age = [field for field in response.fields if field[0] == "age"]
        return replace(stored, response=replace(stored.response, fields=(*stored.response.fields, *age)))

    def _refresh(self, key: tuple[str, str], path: str, fields: Mapping[str, str], now: float, wall: float) -> None:
        with suppress(Unreachable, Failed):
            self._load(key, path, fields, now, wall, self._stored.get(key), is_unwanted=False)

    def _freshened(self, old: Response, new: Response) -> Response:
        """Sections 3.2 and 4.3.4."""
        of_the_body = ("etag", "content-length", "content-encoding", "content-md5", "content-range")
        news = tuple(field for field in new.fields if field[0] not in of_the_body)
        named = {name for name, _ in news} | {"age"}
        return Response(old.status, tuple(field for field in old.fields if field[0] not in named) + news, old.body)

    def _learn(
        self,
        key: tuple[str, str],
        stored: Stored,
        head: Response,
        fields: Mapping[str, str],
        now: float,
        wall: float,
    ) -> None:
        """Section 4.3.5: what a HEAD tells of a stored response to a GET."""
        if (head.status, stored.response.status) != (200, 200):
            return
        for name in ("etag", "last-modified"):
            if head.get(name) not in (None, stored.response.get(name)):
                self._forget(key[0])
                return
        renewed = self._freshened(stored.response, head)
        if is_storable(Stored(renewed, now, wall), bool({"authorization", "cookie"} & set(fields))):
            self._stored[key] = self._with_age(Stored(kept_fields(renewed), now, wall), renewed)

    # --- section 4: construct the response -----------------------------------------------------------------------

    def _from(self, stored: Stored, method: str, fields: Mapping[str, str], now: float) -> Response:
        age = math.floor(now - stored.received + initial_age(stored))
        shown = (*(field for field in stored.response.fields if field[0] != "age"), ("age", str(age)))
        response = self._checked(replace(stored.response, fields=shown), fields, stored.response)
        if response.status == 304:
            return response
        if method == "HEAD":
            return replace(response, body="")
        return self._part(response, fields) if response.status == 200 and "range" in fields else response

    def _checked(self, response: Response, fields: Mapping[str, str], stored: Response) -> Response:
        """Section 4.3.2: a client that has it already."""
        if not 200 <= response.status < 300:
            return response
        wanted, since = fields.get("if-none-match"), when(fields.get("if-modified-since"))
        if wanted is not None:
            etag = (stored.get("etag") or "").removeprefix("W/")
            same = wanted == "*" or (
                etag != "" and etag in [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
            )
        else:
            changed = when(stored.get("last-modified") or stored.get("date"))
            same = response.status == 200 and since is not None and changed is not None and changed <= since
        if not same:
            return response
        repeated = ("cache-control", "content-location", "date", "etag", "expires", "vary", "age")
        return Response(304, tuple(field for field in response.fields if field[0] in repeated))

    def _part(self, response: Response, fields: Mapping[str, str]) -> Response:
        """RFC 9110, section 14."""
        if "if-range" in fields and fields["if-range"] != response.get("etag"):
            return response
        if fields.get("if-range", "").startswith("W/"):
            return response
        first, _, last = fields["range"].removeprefix("bytes=").partition("-")
        size = len(response.body)
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1 if first and last else size)
        rest = tuple(field for field in response.fields if field[0] != "content-length")
        if start >= end:
            return Response(416, (*rest, ("content-range", f"bytes */{size}")))
        where = ("content-range", f"bytes {start}-{end - 1}/{size}")
        return Response(206, (*rest, where), response.body[start:end])

    # --- sections 4.1 and 4.4 ------------------------------------------------------------------------------------

    def _selected(self, path: str, fields: Mapping[str, str]) -> str:
        """What of a request selects: here each path varies by the same fields all the time."""
        names = VARIES[path]
        return "|".join(f"{name}={fields.get(name)}" for name in names if name != "*")

    def _change(self, method: str, path: str, fields: Mapping[str, str]) -> Response:
        response = self._origin(method, path, fields)
        if 200 <= response.status < 400:
            self._forget(path)
        return response

    def _forget(self, path: str) -> None:
        self._stored = {key: stored for key, stored in self._stored.items() if key[0] != path}


VARIES: dict[str, tuple[str, ...]] = {
    "/plain": (),
    "/language": ("accept-language",),
    "/two": ("accept-language", "x-a"),
    "/star": ("*",),
}
"""The fields that each path varies by."""
