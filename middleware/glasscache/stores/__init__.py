"""Where entries are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glasscache.errors import MissingExtraError

if TYPE_CHECKING:
    from glasscache.stores.disk import DiskStore
    from glasscache.stores.redis import RedisStore


def disk_store() -> type[DiskStore]:
    """The class, imported when it is needed: who keeps nothing on a disk does without sqlite3."""
    try:
        from glasscache.stores.disk import DiskStore  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error}: DiskStore needs it, and this Python was built without") from error
    return DiskStore


def redis_store() -> type[RedisStore]:
    """The class, imported when it is needed: the core does without redis. MissingExtraError if that is missing."""
    try:
        from glasscache.stores.redis import RedisStore  # noqa: PLC0415 - so that only who uses it needs the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error}: RedisStore needs it, pip install 'glasscache[redis]'") from error
    return RedisStore


def open_redis(url: str, **options: Any) -> RedisStore:
    """`RedisStore.from_url`."""
    return redis_store().from_url(url, **options)
