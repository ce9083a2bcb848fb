"""What goes over the bus between machines: versioned msgpack.

Decides the format. A message may come from anybody who may publish: what is not exactly of this form is none.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

VERSION: Literal[1] = 1
MAX_NUMBER = 2**52
"""Of an invalidation: Lua's numbers and the scores of sorted sets are doubles."""

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
"""Of a machine, of a span, or of the life of a server's data."""


class Marked(msgspec.Struct, array_like=True, tag="marked", frozen=True):
    """Something was told invalid."""

    tags: tuple[str, ...]
    everything: bool
    machine: Name
    source: Name
    """A `traceparent`, or ""."""


class Replaced(msgspec.Struct, array_like=True, tag="replaced", frozen=True):
    """There is a new answer under the key."""

    key: bytes
    machine: Name
    copy: Number = 0
    """Tells the copy that the sender has put on a disk from any other (`Middle.put_last`); 0: it has put none."""


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One message. The script of `_redis_backplane.py` writes the same form by hand."""

    version: Literal[1]
    number: Number
    previous: Number
    """The number given out before this one; the number itself: read everything anew."""
    birth: Name
    """Which life of the server's data the numbers belong to."""
    time: Annotated[int, msgspec.Meta(ge=0)]
    """Microseconds by the server's clock."""
    told: Marked | Replaced


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
NOT_A_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode` raises for anything but a Message."""
