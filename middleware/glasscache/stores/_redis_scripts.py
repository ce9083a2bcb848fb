"""How Lua is run on the server: by its digest, and in full where the server does not know it (yet, or any more)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoScriptError, SlotNotCoveredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis, RedisCluster


class Script:
    """One script."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # what EVALSHA asks for

    async def run(
        self, client: Redis | RedisCluster, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]
    ) -> Any:
        """What the script returns. Raises what the client raises."""
        rest = (len(keys), *keys, *arguments)
        try:
            return await client.execute_command("EVALSHA", self._digest, *rest)
        except NoScriptError:
            return await client.execute_command("EVAL", self._text, *rest)
        except SlotNotCoveredError:
            await cast("RedisCluster", client).nodes_manager.initialize()  # by itself the client never asks again
            raise
