"""What test_trouble.py serves by uvicorn, several times: documents with versions that a file tells, behind the cache.

Decides nothing: every answer says whose it is, of what, and which version its load has seen. The cache is made from the
environment, as a user's is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from glasscache.asgi import CacheMiddleware, Rule, answer
from glasscache.keys import credential
from glasscache.settings import Settings

VERSIONS = "TROUBLE_VERSIONS"
"""Names the file: four bytes a document."""

cache = Settings.from_env().cache()


def version(document: int) -> int:
    """The newest one."""
    found: int = struct.unpack_from("<I", Path(os.environ[VERSIONS]).read_bytes(), 4 * document)[0]
    return found


def told(kind: str, tenant: str, document: int, seen: int, language: str = "") -> bytes:
    """The body of an answer: whose, of what, which version; and bytes that follow from these."""
    said = {"kind": kind, "tenant": tenant, "document": document, "version": seen, "language": language}
    mark = blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
    return json.dumps({**said, "mark": mark * (20_000 if kind == "large" else 20)}).encode()


@cache.cached(ttl=60, tags=lambda tenant, document: (f"document:{document}",))
async def value(tenant: str, document: int) -> str:
    """The same as a value in code."""
    seen = version(document)
    await asyncio.sleep(0.02)
    return told("value", tenant, document, seen).decode()


async def ask(request: Request) -> Response:
    """One document, in one of the ways in which answers are given."""
    kind, document = request.path_params["kind"], int(request.path_params["document"])
    tenant = request.headers["authorization"]
    if kind == "value":
        return Response(await value(tenant, document))
    answer().tag(f"document:{document}")
    seen = version(document)
    await asyncio.sleep(random.random() * 0.05)
    language = request.headers["accept-language"] if kind == "varied" else ""
    body = told(kind, tenant, document, seen, language)
    if kind != "streamed":
        return Response(body, headers={"vary": "accept-language"} if language else None)

    async def pieces() -> AsyncIterator[bytes]:
        for begins in range(0, len(body), 200):
            yield body[begins : begins + 200]
            await asyncio.sleep(0.02)

    return StreamingResponse(pieces())


async def invalidate(request: Request) -> Response:
    """By its tag."""
    return JSONResponse(await cache.invalidate(tag=f"document:{request.path_params['document']}"))


app = CacheMiddleware(
    Starlette(
        routes=[
            Route("/ask/{kind}/{document}", ask),
            Route("/invalidate/{document}", invalidate, methods=["POST"]),
        ]
    ),
    cache=cache,
    rules=[
        Rule(f"/ask/{kind}/{{document}}", ttl=60, tenant=credential("authorization"))
        for kind in ("plain", "varied", "streamed", "large")
    ],
)
