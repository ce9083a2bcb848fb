"""The syntax of HTTP fields: bytes in, Python values out.

Decides what a field says, never what follows from it. Must never raise on what a client or an origin sent
(only `normalise` does, on what no server could send), never read a clock or a locale, and never take longer
than in proportion to its input: patterns are possessive, so that none of them can backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from glasscache._entry import Headers

# RFC 9110, section 5.6.2 (token) and 5.6.4 (quoted-string)
_TCHAR = rb"!#$%&'*+.^_`|~0-9A-Za-z-"
TOKEN = re.compile(rb"[%b]++" % _TCHAR)
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'

# RFC 9111, section 5.2: #( token [ "=" ( token / quoted-string ) ] ); members may be empty (9110, 5.6.1.2)
_DIRECTIVE = re.compile(
    rb"[ \t]*+(?:(?P<name>[%b]++)(?:=(?P<value>[%b]++|%b))?+)?+[ \t]*+(?:,|\Z)" % (_TCHAR, _TCHAR, _QUOTED),
    re.DOTALL,
)
_NOT_DIRECTIVE = re.compile(rb"[^=%b]++" % _TCHAR)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_LONGEST_NUMBER = 18  # digits; int() refuses 4,301 and slows down long before

# RFC 9111, section 1.2.2: what overflows counts as 2^31
_FOREVER = 2**31

_MONTHS = {name: at for at, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAYS = {name: at for at, name in enumerate(b"mon tue wed thu fri sat sun".split())}
_DAY, _FULL_DAY = rb"(?P<day>[a-z]{3})", rb"(?P<day>(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
_MONTH = rb"(?P<month>[a-z]{3})"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# RFC 9110, section 5.6.7; RFC 9111, section 4.2: a cache matches them without regard to case, and GMT only
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rb"%b, (?P<date>\d\d) %b (?P<year>\d{4}) %b GMT" % (_DAY, _MONTH, _TIME),  # IMF-fixdate
        rb"%b, (?P<date>\d\d)-%b-(?P<short>\d\d) %b GMT" % (_FULL_DAY, _MONTH, _TIME),  # RFC 850
        rb"%b %b (?P<date>\d\d| \d) %b (?P<year>\d{4})" % (_DAY, _MONTH, _TIME),  # asctime
    )
)


def normalise(raw: Iterable[Iterable[object]]) -> Headers:
    """An application's headers in our form: tuples, names in lower case; order, repetitions and values stay.

    Raises TypeError, with the culprit, for what is no pair of bytes: no server could send that either.
    """
    return read_fields(raw, frozenset())[0]


def read_fields(raw: Iterable[Iterable[object]], watched: frozenset[bytes]) -> tuple[Headers, bool, list[bytes]]:
    """As `normalise`; and whether there is any of the `watched` names, and the values of Content-Length."""
    fields, found, lengths = [], False, []
    for field in raw:
        try:
            name, value = field
        except (TypeError, ValueError):
            raise TypeError(f"header {repr(field)[:80]} is no pair of a name and a value") from None
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            raise _not_bytes(name, value)
        name = name.lower()
        fields.append((name, value))
        if name in watched:
            found = True
        elif name == b"content-length":
            lengths.append(value)
    return tuple(fields), found, lengths


def _not_bytes(name: object, value: object) -> TypeError:
    culprit = name if isinstance(value, bytes) else value
    kind = type(culprit).__name__
    return TypeError(f"header {repr(name)[:80]}: {repr(culprit)[:80]} is {kind}, and has to be bytes")


def members(values: Iterable[bytes]) -> list[bytes]:
    """The members, without empty ones, of a list field without quoted strings (RFC 9110, section 5.6.1)."""
    return [member for value in values for part in value.split(b",") if (member := part.strip(b" \t"))]


def delta_seconds(value: bytes | None) -> int | None:
    """A number of seconds (RFC 9111, section 1.2.2), at most 2^31; None if it is anything but digits."""
    if value is None or not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    return min(int(digits or b"0"), _FOREVER) if len(digits) <= _LONGEST_NUMBER else _FOREVER


def parse_directives(values: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """Cache-Control (RFC 9111, section 5.2): lower-case name -> argument without its quotes, or None.

    Of a directive that comes twice the strictest stays: no argument before a malformed one before the
    smallest number (section 4.2.1 offers the first one, or "consider it stale"; the smallest is never fresher
    than the first). A field that is not well-formed is read as a heap of words, so that `private; max-age=1`,
    or a `no-store` behind a quote that is never closed, still counts.
    """
    found: dict[bytes, bytes | None] = {}
    for value in values:
        for name, argument in _directives(value):
            key = name.lower()
            found[key] = min(found[key], argument, key=_leniency) if key in found else argument
    return found


def _directives(value: bytes) -> list[tuple[bytes, bytes | None]]:
    read: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at < len(value):
        match = _DIRECTIVE.match(value, at)
        if match is None:
            words = (word.partition(b"=") for word in _NOT_DIRECTIVE.split(value))
            return [(name, argument if equals else None) for name, equals, argument in words if name]
        if name := match["name"]:
            read.append((name, _unquoted(match["value"])))
        at = match.end()
    return read


def _unquoted(value: bytes | None) -> bytes | None:
    return _ESCAPED.sub(rb"\1", value[1:-1]) if value is not None and value.startswith(b'"') else value


def _leniency(argument: bytes | None) -> int:
    if argument is None:
        return -2
    seconds = delta_seconds(argument)
    return -1 if seconds is None else seconds


def content_length(headers: Headers) -> int | None:
    """The declared length of the body, as `length_of` reads it."""
    return length_of([value for name, value in headers if name == b"content-length"])


def length_of(fields: list[bytes]) -> int | None:
    """What the values of Content-Length declare; None: nothing; -1, which no body has: malformed or contradictory.

    RFC 9110, section 8.6: the same number repeated is that number.
    """
    if not fields:
        return None
    if len(fields) == 1 and fields[0].isdigit() and len(fields[0]) <= _LONGEST_NUMBER:
        return int(fields[0])
    values = [part.strip(b" \t") for part in b",".join(fields).split(b",")]
    if not all(value.isdigit() and len(value) <= _LONGEST_NUMBER for value in values):
        return -1
    lengths = set(map(int, values))
    return lengths.pop() if len(lengths) == 1 else -1


def parse_http_date(value: bytes) -> float | None:
    """Unix time of one of the three formats of RFC 9110, section 5.6.7; None for everything else.

    The weekday tells the century of a two-digit year, which therefore takes no clock; beside a full year it says
    nothing, and many senders get it wrong.
    """
    for pattern in _DATES:
        if match := pattern.fullmatch(value.strip(b" \t")):
            part = match.groupdict()
            years = (part["year"],) if "year" in part else (b"20" + part["short"], b"19" + part["short"])
            return next((time for year in years if (time := _moment(part, int(year))) is not None), None)
    return None


def _moment(part: dict[str, bytes], year: int) -> float | None:
    weekday, month = _DAYS.get(part["day"][:3].lower()), _MONTHS.get(part["month"].lower())
    hour, minute, second = int(part["hour"]), int(part["minute"]), int(part["second"])
    if month is None or hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    try:
        date = datetime(year, month, int(part["date"]), tzinfo=UTC)
    except ValueError:
        return None
    time = timedelta(hours=hour, minutes=minute, seconds=second)
    if weekday is None or ("short" in part and date.weekday() != weekday):
        return None
    return date.timestamp() + time.total_seconds()


def parse_retry_after(values: Iterable[bytes], now_wall: float) -> float | None:
    """Seconds from `now_wall` that Retry-After asks to wait (RFC 9110, section 10.2.3); None: not asked."""
    for value in values:
        seconds = delta_seconds(value.strip(b" \t"))
        if seconds is not None:
            return float(seconds)
        date = parse_http_date(value)
        return None if date is None else max(0.0, date - now_wall)
    return None
