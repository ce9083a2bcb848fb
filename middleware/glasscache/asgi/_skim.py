"""What of a JSON body is keyed, found without reading it: the gist, which is the keyed fields as they were sent.

Decides of which bodies it can be said that they have one key if their gists are equal, and if one of them was found to
be strict by reading it: those in which all the rest is proven strict. Must never be sure of a body that another reader
might take for another one: where it is not, the body is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec.structs import astuple

from glasscache._strict import MAX_CANONICAL, MAX_DEPTH

_ABSENT = msgspec.Raw()  # no value is empty
_write = msgspec.json.Encoder().encode


def skimmer(fields: Iterable[str], ignored: Iterable[str]) -> Callable[[bytes], bytes | None] | None:
    """A function that gives the gist of a body with these fields, and of no other; None for it: read the body.
    None for names that cannot be looked for in this way: they have to be escaped.
    """
    keyed, others = sorted(fields), sorted(ignored)
    aliases = {f"_{number}": name for number, name in enumerate((*keyed, *others))}
    kinds: list[tuple[Any, object]] = [(msgspec.Raw, _ABSENT)] * len(keyed) + [(Any, msgspec.UNSET)] * len(others)
    try:
        shape = msgspec.defstruct(
            "Body",
            [(alias, *kind) for alias, kind in zip(aliases, kinds, strict=True)],
            rename=aliases,
            forbid_unknown_fields=True,
            omit_defaults=True,
            gc=False,
        )
    except ValueError:
        return None
    read = msgspec.json.Decoder(shape, float_hook=msgspec.Raw).decode

    def skim(body: bytes) -> bytes | None:
        if len(body) > MAX_CANONICAL:
            return None
        try:
            found = read(body)
            written = _write(found)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        # Of two fields of one name the last is kept, so the text gets shorter, or loses quotes. Nothing makes up for
        # that: to be written again makes nothing longer, and without a backslash every quote is a string's border.
        if len(written) != len(body) and (b"\\" in body or written.count(b'"') != body.count(b'"')):
            return None
        gist = b",".join(astuple(found)[: len(keyed)])
        return None if _may_be_deep(written, gist) else gist

    return skim


def _may_be_deep(written: bytes, gist: bytes) -> bool:
    """Whether what is not keyed may be deeper than is read."""
    if len(written) - len(gist) <= 2 * MAX_DEPTH:  # every bracket is closed by another one
        return False
    brackets = [written.count(one) - gist.count(one) for one in (b"[", b"{")]
    return sum(brackets) > MAX_DEPTH
