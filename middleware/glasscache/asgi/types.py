"""The shapes of ASGI 3, named once. Decides nothing and imports nothing of ours.

Plain dictionaries, as the specification has them: whoever reads one must expect that keys are missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
"""What is known of a connection before its first message."""

Message: TypeAlias = MutableMapping[str, Any]
"""One event, in either direction; `type` says which."""

Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
