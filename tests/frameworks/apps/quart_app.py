"""The site in Quart, whose middleware is wrapped around `asgi_app`."""

from __future__ import annotations

from quart import Blueprint, Quart, Response, request

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import around, mounted, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()
site, errors = Quart(__name__), Blueprint("errors", __name__)


@site.get("/answer")
async def answer() -> dict[str, str]:
    return origin.load(request.args["q"], root=request.root_path)


@site.get("/private")
async def private() -> dict[str, str]:
    return origin.load(request.args["q"], user=request.scope["user_name"])  # type: ignore[typeddict-item]


@site.get("/slow")
async def slow() -> dict[str, str]:
    return await origin.slow(request.args["q"])


@site.get("/events")
async def events() -> Response:
    response = Response(origin.events(request.args["q"]), content_type="text/event-stream")
    response.timeout = None
    return response


@site.get("/endless")
async def endless() -> Response:
    headers = {"Cache-Control": "no-store"}
    response = Response(origin.endless(request.args["q"]), content_type="text/event-stream", headers=headers)
    response.timeout = None
    return response


@site.get("/task")
async def task() -> dict[str, str]:
    site.add_background_task(origin.work, request.args["q"])
    return origin.load(request.args["q"])


@errors.get("/fail")
async def fail() -> str:
    origin.fail(request.args["q"])
    return "never"


@errors.get("/teapot")
async def teapot() -> str:
    origin.refuse(request.args["q"])
    return "never"


@site.errorhandler(TooHardError)
async def explain(error: Exception) -> tuple[dict[str, str], int]:
    return TEAPOT, 418


@site.before_serving
async def startup() -> None:
    origin.tell("startup")


@site.after_serving
async def shutdown() -> None:
    origin.tell("shutdown")


site.register_blueprint(errors)
site.register_blueprint(errors, name="bare", url_prefix="/bare")
main = CacheMiddleware(site.asgi_app, cache=origin.cache, rules=rules())  # type: ignore[arg-type]
site.asgi_app = mounted(around(main), main)  # type: ignore[assignment,method-assign]
app = origin.served(site)  # type: ignore[arg-type]
