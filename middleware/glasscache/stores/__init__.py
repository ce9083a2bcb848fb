"""Where entries are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glasscache.errors import MissingExtraError

if TYPE_CHECKING:
    from glasscache.stores._envelope import Envelope as Envelope
    from glasscache.stores._envelope import EnvelopeError as EnvelopeError
    from glasscache.stores.disk import DiskStore
    from glasscache.stores.redis import RedisStore


def __getattr__(name: str) -> object:
    if name in ("Envelope", "EnvelopeError"):  # for stores that others write; who has memory alone needs neither
        from glasscache.stores import _envelope  # noqa: PLC0415 - see above

        return getattr(_envelope, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def import_disk_store() -> type[DiskStore]:
    """`DiskStore`, when it is needed: who keeps nothing on a disk does without sqlite3. MissingExtraError."""
    try:
        from glasscache.stores.disk import DiskStore  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error}: DiskStore needs it, and this Python was built without") from error
    return DiskStore


def import_redis_store() -> type[RedisStore]:
    """`RedisStore`, when it is needed: the core does without redis-py. MissingExtraError."""
    try:
        from glasscache.stores.redis import RedisStore  # noqa: PLC0415 - so that only who uses it needs the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error}: RedisStore needs it, pip install 'glasscache[redis]'") from error
    return RedisStore
