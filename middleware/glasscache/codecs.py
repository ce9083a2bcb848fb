"""Values to bytes and back, with msgpack: bytes that are data, never code.

Decides which values can be kept and in which type they come back. Must never answer with a value that differs
from the one that was kept, as far as its annotated type can tell.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar, cast

import msgspec

from glasscache.errors import CodecError

T = TypeVar("T")

_REMEDY = (
    "return JSON-like values (of an array, `array.tolist()`), dataclasses, msgspec Structs or pydantic models, "
    "and annotate what is returned as it is (or give `type=`)"
)


class MsgspecCodec:
    """A `Codec` for whatever msgspec encodes, and for pydantic models that their own JSON describes in full.

    msgspec encodes JSON-like values, bytes, sets, dataclasses, Structs, NamedTuples, enums, datetimes, UUIDs
    and Decimals. A value comes back in the type that is asked for, and None as None. `Any` and `object` give plain
    values: None, bool, int, float, str, bytes, list, dict, and aware datetimes; a tuple is then a list, a dataclass a
    dict, a UUID a str. Aware datetimes come back in UTC. Integers must fit into 64 bits. CodecError names the type and
    the remedy.
    """

    def encode(self, value: object) -> bytes:
        """The value in msgpack."""
        try:
            return _encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise CodecError(f"cannot encode {_name(type(value))} ({error}): {_REMEDY}") from error

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - the word of msgspec's own API
        """The value in `data`, a new one at every call."""
        try:
            value: T = _decoder(type).decode(data)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            if data == _NONE:  # what is not found comes back as None, whether or not its function says so
                return cast("T", None)
            raise CodecError(f"cannot decode as {_name(type)} ({error}): {_REMEDY}") from error
        return value


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return _kept_decoder(kind)
    except TypeError:  # not hashable, as Annotated[int, {}] is; or no type that msgspec knows: that fails again
        return _new_decoder(kind)


def _new_decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, dec_hook=_to_model)


_kept_decoder = functools.lru_cache(maxsize=256)(_new_decoder)


# --- pydantic, which need not be installed ------------------------------------------------------------------


def _from_model(value: Any) -> object:
    """The model's own JSON, if it says everything: fields that are left out of it would come back changed."""
    kind = type(value)
    if not hasattr(kind, "model_validate_json"):
        raise TypeError(f"{_name(kind)} is not supported")
    text = value.model_dump_json(by_alias=True, round_trip=True)
    if kind.model_validate_json(text) != value:
        raise TypeError(f"{_name(kind)} differs after a round trip through its own JSON")
    return msgspec.json.decode(text)


def _to_model(kind: Any, content: object) -> object:
    if kind is object:  # as strict type checkers want `Any` written
        return content
    if not hasattr(kind, "model_validate_json"):
        raise TypeError(f"{_name(kind)} is not supported")
    return kind.model_validate_json(msgspec.json.encode(content))


_encode = msgspec.msgpack.Encoder(enc_hook=_from_model).encode
_NONE = _encode(None)
