"""What a function says of itself: its parameters, and the type of what it returns.

Decides what an annotation means here, in whichever way it is written. Must never fail for one that only type checkers
can read: it says nothing then.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

# Since Python 3.14 annotations are evaluated when somebody asks for them: names that are not there (yet) stay names.
_LAZY = importlib.import_module("annotationlib").Format.FORWARDREF if sys.version_info >= (3, 14) else None
_SIGNATURE: dict[str, Any] = {"annotation_format": _LAZY} if _LAZY else {}
_ANNOTATIONS: dict[str, Any] = {"format": _LAZY} if _LAZY else {}


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Its parameters, and what is annotated of them."""
    return inspect.signature(function, **_SIGNATURE)


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What is annotated of its parameters and of what it returns: types, names of types, or what stands for them."""
    return inspect.get_annotations(function, **_ANNOTATIONS)


def returned_type(function: Callable[..., Any], wanted: Any = None) -> Any:
    """`wanted`, else what a function says it returns, or what one can await from that.

    Any if it does not say, or not in a way that can be resolved here. What is written in one place is resolved once:
    a loader that is made anew for each call says what the one before it said.
    """
    if wanted is not None:
        return wanted
    if isinstance(function, functools.partial):
        function = function.func
    written: Any = function
    while hasattr(written, "__wrapped__"):  # the code around it may be that of many others, too
        written = written.__wrapped__
    try:
        place = (id(written.__code__), id(written.__globals__), function.__annotations__["return"])
        known = _said.get(place)
    except KeyError:
        return Any
    except (AttributeError, NameError, TypeError):  # not written in Python, not defined yet, not hashable
        return _resolved(function)
    if known is None:
        if len(_said) >= _PLACES:
            _said.clear()
        known = _said[place] = (_resolved(function), written.__code__, written.__globals__)
    return known[0]


_PLACES = 1024
_said: dict[tuple[int, int, Any], tuple[Any, object, object]] = {}
"""By code, globals and annotation: the type. Code and globals are kept with it, so that nothing else gets their ids."""


def _resolved(function: Callable[..., Any]) -> Any:
    try:  # only what it returns: what a parameter is may be known to type checkers alone
        said: Any = annotations_of(function)["return"]
        kinds = getattr(function, "__type_params__", ())
        alone: Any = SimpleNamespace(__annotations__={"return": said}, __type_params__=kinds, __wrapped__=function)
        said = typing.get_type_hints(alone)["return"]
    except Exception:  # an annotation may be any expression
        return Any
    awaited = typing.get_origin(said) in (Awaitable, Coroutine)
    return typing.get_args(said)[-1] if awaited else said
