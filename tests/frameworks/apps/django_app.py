"""The site in Django, in one file; the cache is wrapped around what `get_asgi_application()` returns."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import around, mounted, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()
tasks: set[asyncio.Task[None]] = set()


async def answer(request: HttpRequest) -> JsonResponse:
    return JsonResponse(origin.load(request.GET["q"], root=request.META["SCRIPT_NAME"]))


async def private(request: HttpRequest) -> JsonResponse:
    return JsonResponse(origin.load(request.GET["q"], user=request.scope["user_name"]))


async def slow(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await origin.slow(request.GET["q"]))


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(origin.events(request.GET["q"]), content_type="text/event-stream")


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    headers = {"Cache-Control": "no-store", "Content-Type": "text/event-stream"}
    return StreamingHttpResponse(origin.endless(request.GET["q"]), headers=headers)


async def task(request: HttpRequest) -> JsonResponse:
    work = asyncio.create_task(origin.work(request.GET["q"]))
    tasks.add(work)
    work.add_done_callback(tasks.discard)
    return JsonResponse(origin.load(request.GET["q"]))


async def fail(request: HttpRequest) -> None:
    origin.fail(request.GET["q"])


async def teapot(request: HttpRequest) -> None:
    origin.refuse(request.GET["q"])


class Explain(MiddlewareMixin):  # type: ignore[misc]
    """Django's kind of exception handler."""

    def process_exception(self, request: HttpRequest, error: Exception) -> JsonResponse | None:
        return JsonResponse(TEAPOT, status=418) if isinstance(error, TooHardError) else None


urlpatterns = [
    *(path(view.__name__, view) for view in (answer, private, slow, events, endless, task, fail, teapot)),
    *(path(f"bare/{view.__name__}", view) for view in (fail, teapot)),
]
settings.configure(
    ALLOWED_HOSTS=["*"], MIDDLEWARE=[f"{__name__}.Explain"], ROOT_URLCONF=__name__, SECRET_KEY="of a test"
)
main = CacheMiddleware(get_asgi_application(), cache=origin.cache, rules=rules())
app = origin.served(mounted(around(main), main))
