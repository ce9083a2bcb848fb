"""glasscache for ASGI apps: the middleware, its rules, and what a handler may say about its answer."""

from __future__ import annotations

from glasscache.asgi._warming import WarmRequest
from glasscache.asgi.handler import AnswerNotes, answer
from glasscache.asgi.middleware import CREDENTIALS, CacheMiddleware
from glasscache.asgi.rules import QueryKey, Rule
from glasscache.keys import Text, credential, json_body

__all__ = [
    "CREDENTIALS",
    "AnswerNotes",
    "CacheMiddleware",
    "QueryKey",
    "Rule",
    "Text",
    "WarmRequest",
    "answer",
    "credential",
    "json_body",
]
