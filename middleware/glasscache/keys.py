"""What two requests, or two calls, must have in common to share an answer; and how that becomes a key.

Decides what is the same. Must never let two different things meet in one key (a doubt costs a hit, never a
wrong answer), never let clear text out, and never depend on a machine, a process or the order of a dict.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import secrets
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec

from glasscache._strict import MAX_CANONICAL, MAX_DEPTH, parse_strictly, read, write
from glasscache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from glasscache._entry import Key

_SECRET_LENGTH = 32
_BRACKETS = MAX_DEPTH + 1  # of a kind, that are counted

# A msgpack array of byte strings is a length-prefixed list of parts, made in one call of C.
_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class Keyring:
    """Turns parts into keys under one secret.

    `secret`: None makes a random one (keys then mean something in this process only); otherwise at least 32
    characters, the same on every machine that shares a tier.
    """

    __slots__ = ("_keyed", "_labels")

    def __init__(self, secret: str | bytes | None = None) -> None:
        if secret is None:
            secret = secrets.token_bytes(_SECRET_LENGTH)
        elif not isinstance(secret, str | bytes):
            raise ConfigurationError(f"the key secret is of type {type(secret).__name__}: give a text, or bytes")
        elif len(secret) < _SECRET_LENGTH:
            raise ConfigurationError(
                f"the key secret has {len(secret)} characters and needs {_SECRET_LENGTH} or more: "
                "make one with `glasscache key`"
            )
        raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        # BLAKE2 takes keys of at most 64 bytes, and neither purpose may tell anything about the other.
        key = hashlib.blake2b(raw, digest_size=32, person=b"glasscache.key").digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=16)
        label_key = hashlib.blake2b(raw, digest_size=32, person=b"glasscache.label").digest()
        self._labels = hashlib.blake2b(key=label_key, digest_size=8)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Keyring:
        """Under `GLASSCACHE_KEY`; without one (or an empty one) under a random secret."""
        try:
            return cls(environ.get("GLASSCACHE_KEY") or None)
        except ConfigurationError as error:
            raise ConfigurationError(f"GLASSCACHE_KEY: {error}") from None

    def digest(self, *parts: bytes) -> Key:
        """The key of these parts, 16 bytes: ("ab", "c"), ("a", "bc") and ("abc", "") are three keys."""
        state = self._keyed.copy()  # faster than to begin a keyed hash
        state.update(_pack(parts))
        return state.digest()

    def stem(self, before: tuple[bytes, ...], after: tuple[bytes, ...] = ()) -> Stem:
        """For keys that differ in one part: `stem(before, after).digest(part)` is `digest(*before, part, *after)`."""
        parts = (*before, b"", *after)
        packed = [_pack(part) for part in parts]
        head = _pack(parts)[: -len(b"".join(packed))]
        state = self._keyed.copy()
        state.update(head + b"".join(packed[: len(before)]))
        return Stem(state, b"".join(packed[len(before) + 1 :]))

    def label(self, key: Key) -> str:
        """What may be shown of a key (`cache.key_hash`): 16 hexadecimal characters that do not lead back."""
        state = self._labels.copy()
        state.update(key)
        return state.hexdigest()


class Stem:
    """All but one of the parts of a key, digested already."""

    __slots__ = ("_rest", "_state")

    def __init__(self, state: hashlib.blake2b, rest: bytes) -> None:
        self._state = state
        self._rest = rest

    def digest(self, part: bytes) -> Key:
        """The key with this part."""
        state = self._state.copy()
        state.update(_pack(part) + self._rest)
        return state.digest()


# --- JSON bodies ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What is overlooked in the string values of a body, at any depth: nothing unless asked for.

    `nfc`: how an accented letter is composed (Unicode NFC). `whitespace`: runs of white space count as one
    space, and none at the ends. `case`: upper and lower case, in every script (Unicode case folding).
    Names of fields are never changed.
    """

    nfc: bool = False
    whitespace: bool = False
    case: bool = False


_AS_SENT = Text()
_RAW = b"raw:"


def _keyed_text(text: str, overlooked: Text) -> str:
    """One string as it is keyed."""
    if overlooked.case:  # Unicode, definition D145: decompose before folding
        text = (unicodedata.normalize("NFD", text) if overlooked.nfc else text).casefold()
    if overlooked.nfc:
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split()) if overlooked.whitespace else text


def _keyed_value(value: object, overlooked: Text) -> object:
    """A parsed JSON value, with all its strings as they are keyed."""
    if isinstance(value, str):
        return _keyed_text(value, overlooked)
    if isinstance(value, list):
        return [_keyed_value(item, overlooked) for item in value]
    if isinstance(value, dict):
        return {name: _keyed_value(item, overlooked) for name, item in value.items()}
    return value


def json_body(*fields: str, ignore: Iterable[str] = (), text: Text = _AS_SENT) -> JsonBody:
    """Key a request by its JSON body.

    Without `fields`: by the whole body, less the top-level fields in `ignore`. With `fields`: by these alone;
    a body with a top-level field that is neither listed nor ignored bypasses the cache (`unkeyed_field`),
    because the app may look at it. `text` says what to overlook in the keyed strings.
    """
    ignored = frozenset(ignore)
    if isinstance(ignore, str) or not all(isinstance(name, str) for name in (*fields, *ignored)):
        raise ConfigurationError(
            f"json_body(*{fields!r}, ignore={ignore!r}): "
            "give names of fields, such as json_body('question', ignore=('user',))"
        )
    if both := sorted(ignored.intersection(fields)):
        raise ConfigurationError(f"json_body: {both!r} both keyed and ignored: name each field once")
    settings = (sorted(set(fields)), sorted(ignored), text.nfc, text.whitespace, text.case)
    # In the key: an answer kept under other settings (in a shared tier, by another release) is not found.
    mark = hashlib.blake2b(_pack(settings), digest_size=8, person=b"glasscache.body").digest()
    return JsonBody(fields=frozenset(fields), ignored=ignored, text=text, mark=b"json:" + mark)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JsonBody:
    """A `KeyBuilder`, made by `json_body()`.

    A body that parses strictly is keyed by what it says: the order of names, white space between tokens and
    the spelling of strings do not matter; numbers count as written (1, 1.0 and 1e0 differ), but -0 is 0.
    Anything else, and a body that is no object where fields are named, is keyed by its bytes, under another
    mark: the app might see something else in it than we do.
    """

    fields: frozenset[str]
    ignored: frozenset[str]
    text: Text
    mark: bytes

    @property
    def bypass_reason(self) -> str:
        """Why a body has no key."""
        return "unkeyed_field"

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        """What stands for the body in the key; None: it has a field that is neither keyed nor ignored."""
        said = self.at_once(body)
        if said is not None:
            return said
        try:
            value = parse_strictly(body)
            if isinstance(value, dict):
                value = {name: item for name, item in value.items() if name not in self.ignored}
                if self.fields and not value.keys() <= self.fields:
                    return None
            elif self.fields:
                return _RAW + body
            return self.mark + write(value if self.text is _AS_SENT else _keyed_value(value, self.text))
        except (ValueError, RecursionError):  # not strict, or half a surrogate pair
            return _RAW + body

    def unkeyed(self, body: bytes) -> list[str]:
        """The names of the top-level fields that are neither keyed nor ignored, for who wants to know."""
        value = parse_strictly(body)
        return sorted(value.keys() - self.fields - self.ignored) if isinstance(value, dict) else []

    def at_once(self, body: bytes) -> bytes | None:
        """The same for a body that has been written without white space, as most are; None: not proven strict.

        Nothing gets longer when it is decoded and written again, however it was escaped. So if it is as long as it
        came, nothing has been dropped: no name came twice.
        """
        length = len(body)
        if (
            length > MAX_CANONICAL
            or self.text is not _AS_SENT
            # With few brackets it cannot be too deep; to replace a byte is the fastest way to count few of them.
            or 2 * length - len(body.replace(b"{", b"", _BRACKETS)) - len(body.replace(b"[", b"", _BRACKETS))
            > MAX_DEPTH
        ):
            return None
        try:
            value = read(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        if type(value) is not dict:
            return None
        dropped = {}
        for name in self.ignored:
            if name in value:
                dropped[name] = value.pop(name)
        if self.fields and not value.keys() <= self.fields:
            return None
        said = write(value)
        written = len(said)
        if dropped:  # one object is written as two, less the comma between them
            written += len(write(dropped)) - (1 if value else 2)
        return self.mark + said if written == length else None


# --- tenants ----------------------------------------------------------------------------------------------

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A rule's `tenant`, made by `credential()`. `header`: the field's name in lower case."""

    header: bytes

    def __call__(self, scope: Mapping[str, Any]) -> str | None:
        """A digest of the request's credential; None if it has none, or only empty ones."""
        values = [bytes(value) for name, value in scope["headers"] if name.lower() == self.header]
        if not any(values):
            return None
        if self.header == b"cookie":
            values = [b"; ".join(values)]  # one field that HTTP/2 may split (RFC 9113, section 8.2.3)
        return hashlib.blake2b(_pack((self.header, *values)), digest_size=32, person=b"glasscache.cred").hexdigest()


def credential(header: str) -> Credential:
    """Tell tenants apart by the whole value of a request header (of all of them, if it comes several times).

    The digest has no key: it must be the same on all machines, and it goes nowhere but into the keyed digest
    of the rule. Do not log it: a weak credential could be guessed from it.
    """
    given: object = header
    if not (isinstance(given, str) and _HEADER_NAME.fullmatch(given)):
        raise ConfigurationError(f"credential({header!r}): give a header's name, such as 'authorization'")
    return Credential(header.lower().encode("ascii"))
