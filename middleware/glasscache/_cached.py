"""Functions and methods whose values are cached: what `Cache.cached` makes of them.

Decides which of a call's arguments are in its key, where the function runs (a plain one in a thread, never on the
event loop), and how a method finds its instance. Must never let the calls of two functions, two instances or two
closures meet in one key; where it cannot tell them apart it refuses, and says what to do.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import FunctionType, MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from glasscache._calls import call_key
from glasscache._namesakes import mark_of
from glasscache._returned import annotations_of, returned_type, signature_of
from glasscache._values import UNWANTED, Absent, Question, names_of
from glasscache._warming import CONCURRENCY
from glasscache.errors import ConfigurationError

if typing.TYPE_CHECKING:
    from glasscache._entry import Key
    from glasscache._values import Kept, Values
    from glasscache._warming import Warmed, Warmth
    from glasscache.policy import Policy

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F")
P = ParamSpec("P")
Q = ParamSpec("Q")


class CachedFunction(Generic[P, T]):
    """A function whose values are cached, to be awaited; made by `Cache.cached`."""

    def __init__(
        self,
        values: Values,
        function: Callable[P, Awaitable[T]] | Callable[P, T],
        *,
        policy: Policy,
        name: str | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        key: Callable[..., object] | None = None,
        ignore: Iterable[str] = (),
        type: Any = None,  # noqa: A002 - the word of `get_or_load`
        kept: Kept | None = None,
    ) -> None:
        _check(function, name)
        functools.update_wrapper(self, function)
        # of the object itself, no bound method: there Litestar would look for hints, and find those of all functions
        vars(self).update(__call__=functools.partial(_call, self), __annotations__=annotations_of(function))
        self._values = values
        self._function: Callable[..., Any] = function
        self._load = function if inspect.iscoroutinefunction(function) else functools.partial(_in_thread, function)
        self._policy = policy
        self._name = name or f"{function.__module__}.{function.__qualname__}"
        self._identity = self._name if name else self._name + mark_of(function, values.functions)
        self._tags = tags if callable(tags) else names_of(tags)
        self._signature = signature_of(function)
        self._key = key
        self._simple = _NOT_SIMPLE if key is not None else _simple(self._signature)
        self._ignored = _parameters(self._name, self._signature, ignore, key)
        self._wanted: Callable[[], Any] = functools.cache(functools.partial(returned_type, function, type))
        self._kept = kept
        self._bound: tuple[Any, ...] = ()

    # Frameworks ask `inspect` what they are given: Starlette takes what is no function for an app, BlackSheep awaits
    # only what has the code of an async one. So it is a function to whom looks, as what `wrapt` decorates is.
    __class__: Any = property(lambda self: FunctionType)
    __globals__: Any = property(lambda self: getattr(inspect.unwrap(self), "__globals__", {}))
    __closure__: Any = None
    __defaults__: Any = None
    __kwdefaults__: Any = None

    def __reduce__(self) -> Any:
        """Copied and pickled as functions and methods are: by name."""
        return (getattr, (*self._bound, self._function.__name__)) if self._bound else self._function.__qualname__

    def __repr__(self) -> str:
        """Of which function."""
        return f"<cached {self._name}>"

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The stored value for these arguments, or a new one."""
        key = self._key_of(args, kwargs)
        value = self._values.find(key, self._wanted(), self._name)
        if value.__class__ is Absent:
            value = await self._values.load(self._question(key, args, kwargs), value)
        return cast("T", value)

    __code__: Any = __call__.__code__

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A new value for these arguments, stored in place of the one that may be there.

        A load that is under way counts as new: after a change, `invalidate` what was loaded before it.
        """
        question = self._question(self._key_of(args, kwargs), args, kwargs)
        return cast("T", await self._values.load(question, UNWANTED))

    async def warm(self, calls: Iterable[object], *, concurrency: int = CONCURRENCY) -> Warmed:
        """Load the values of these calls before anybody makes them, at most `concurrency` at once. Of each: its one
        argument, or a tuple of all. What is fresh is left alone. ConfigurationError for arguments that cannot be keyed.
        """
        return await self._values.warm_all(calls, self._warm, concurrency)

    def _warm(self, call: object) -> Awaitable[Warmth]:
        args: Any = call if isinstance(call, tuple) else (call,)
        return self._values.warm(self._question(self._key_of(args, {}), args, {}))

    def _question(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
        given = (*self._bound, *args)
        load = functools.partial(self._load, *given, **kwargs)
        return Question(
            self._values,
            key,
            load,
            wanted=self._wanted(),
            group=self._name,
            policy=self._policy,
            tags=self._tags(*given, **kwargs) if callable(self._tags) else self._tags,
            kept=self._kept,
            text=shown_call(self._name, load) if self._values.shows else "",
        )

    def key_for(self, /, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key of these arguments, for `Cache.invalidate`."""
        return self._key_of(args, kwargs)

    def _key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        arguments = self._arguments(args, kwargs)
        if arguments is None:
            bound = self._signature.bind(*self._bound, *args, **kwargs)
            bound.apply_defaults()
            arguments = bound.arguments
            if self._key is not None:
                arguments = {"key=": self._key(*bound.args, **bound.kwargs)}  # no parameter has such a name
        if self._ignored:
            arguments = {name: value for name, value in arguments.items() if name not in self._ignored}
        return self._values.keyring.digest(b"call", call_key(self._identity, arguments))

    def _arguments(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object] | None:
        """As `Signature.bind` would tell them, which would take a fifth of a hit; None: it has to look itself."""
        names, places, defaults = self._simple
        given = dict(zip(places, (*self._bound, *args), strict=False))
        if len(given) < len(self._bound) + len(args) or not given.keys().isdisjoint(kwargs):
            return None
        arguments = {**defaults, **given, **kwargs}
        return arguments if arguments.keys() == names else None

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Remove the value for these arguments; how many entries left this machine's memory."""
        return await self._values.invalidate(self.key_for(*args, **kwargs))


_call: Callable[..., Any] = CachedFunction.__call__


class OfClass(Protocol[P, Q, T_co]):
    """A cached function under @classmethod, as type checkers see it: the class is known to its calls, to no more."""

    async def __call__(self, /, *args: Q.args, **kwargs: Q.kwargs) -> T_co:
        """The stored value for these arguments, or a new one."""

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """A new value for this class and these arguments."""

    def key_for(self, /, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key of this class and these arguments, for `Cache.invalidate`."""

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Remove the value for this class and these arguments."""

    async def warm(self, calls: Iterable[object], *, concurrency: int = ...) -> Warmed:
        """Load the values of these calls, each a tuple that begins with the class."""


class Unbound(CachedFunction[P, T], Generic[P, T, F]):
    """A cached function as it was written: in a class body it is a method of the instances, or of what stands above it.

    `F` is `Callable[P, None]`. It says no more than `P`, but mypy compares the first parameter of a Callable where
    it does not look at that of a ParamSpec: so both type checkers find out what is bound. They are misled only by
    the first parameter of a static method, if it takes anything (`Any`, `object`).
    """

    @overload
    def __get__(
        self: Unbound[P, T, Callable[Concatenate[type[S], Q], None]], instance: S | None, owner: type[S]
    ) -> OfClass[P, Q, T]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> CachedFunction[P, T]: ...
    @overload
    def __get__(
        self: Unbound[P, T, Callable[Concatenate[S, Q], None]], instance: S, owner: type | None = None
    ) -> CachedFunction[Q, T]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> CachedFunction[P, T]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The function of this instance: a cached one, too, whose first argument is the instance."""
        if instance is None:
            return self
        if isinstance(instance, type):  # from @classmethod; since Python 3.13 it asks for no more than this itself
            return MethodType(self, instance)
        return self._bound_to(instance)

    def _bound_to(self, instance: object) -> CachedFunction[..., T]:
        bound: CachedFunction[..., T] = object.__new__(CachedFunction)  # stays bound, as Python's own methods do
        bound.__dict__.update(self.__dict__)
        bound._bound = (instance,)
        # What inspect.signature() and frameworks look at: the parameters that are left.
        bound.__dict__["__wrapped__"] = MethodType(self._function, instance)
        bound.__dict__["__call__"] = functools.partial(_call, self, instance)
        return bound


class Decorator(Protocol):
    """What `Cache.cached()` answers: the same for async functions and for plain ones."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> Unbound[P, T, Callable[P, None]]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Unbound[P, T, Callable[P, None]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """The function, cached."""


def cached_function(values: Values, function: Callable[..., Any], **options: Any) -> CachedFunction[..., Any]:
    """The function, cached; of a bound method, its instance (or its class) is part of every key."""
    if isinstance(function, MethodType):
        method: Unbound[..., Any, Any] = Unbound(values, function.__func__, **options)
        return method._bound_to(function.__self__)
    unbound: Unbound[..., Any, Any] = Unbound(values, function, **options)
    return unbound


def shown_call(name: str, load: Callable[[], object]) -> str:
    """A call as a reader would write it; only its name, if its arguments cannot be shown."""
    assert isinstance(load, functools.partial)  # as `CachedFunction` makes it
    given = load.args[1:] if load.func is _in_thread else load.args
    try:
        arguments = [*map(repr, given), *(f"{key}={value!r}" for key, value in load.keywords.items())]
    except Exception:  # somebody's own __repr__
        return name
    return f"{name}({', '.join(arguments)})"


async def _in_thread(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    value = await asyncio.to_thread(function, *args, **kwargs)
    return await value if inspect.isawaitable(value) else value  # a plain function around an async one


def _check(function: Any, name: str | None) -> None:
    """Refuse what has no name to be keyed by, and what answers with something that cannot be kept."""
    if isinstance(function, classmethod | staticmethod):
        kind = type(function).__name__
        raise ConfigurationError(f"cached: {function!r}: write @{kind} above @cache.cached(...), not below it")
    if isinstance(function, CachedFunction):
        raise ConfigurationError(f"cached: {function._name} is cached already: decorate it once")
    if not callable(function) or isinstance(function, type) or not hasattr(function, "__qualname__"):
        raise ConfigurationError(f"cached: {function!r} is not a function: call it in one (`def` or `async def`)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"cached: {function!r} yields its values one by one: return them in a list")
    if function.__name__ == "<lambda>" and name is None:
        raise ConfigurationError("cached: a lambda has no name to be keyed by: give name=, or use def")


def _parameters(
    name: str, signature: inspect.Signature, ignore: Iterable[str], key: Callable[..., object] | None
) -> frozenset[str]:
    ignored = frozenset((ignore,) if isinstance(ignore, str) else ignore)
    if unknown := sorted(ignored.difference(signature.parameters)):
        raise ConfigurationError(f"{name}: cached(ignore={unknown!r}): it has {list(signature.parameters)!r}")
    if ignored and key is not None:
        raise ConfigurationError(f"{name}: cached(key=..., ignore=...): key= says it all, leave ignore= out")
    return ignored


_Simple: TypeAlias = tuple[typing.AbstractSet[str] | None, Sequence[str], dict[str, object]]
_NOT_SIMPLE: _Simple = (None, (), {})
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _simple(signature: inspect.Signature) -> _Simple:
    """The parameters of a function where each has a name for callers, those of them that have a place, too, and their
    defaults.
    """
    parameters = signature.parameters.values()
    if any(each.kind not in _NAMED for each in parameters):
        return _NOT_SIMPLE
    places = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return signature.parameters.keys(), places, defaults
