"""`make demo`: the knowledge service with glasscache in front, visited by a crowd of its own.

Decides the order of the show and how it ends: the index is built, the service is started in this process, its
visitors (`python -m traffic`) run in another one, so that they measure what a client sees. Then it stays up.
Must never leave the visitors running, nor end in a traceback when it is interrupted.
"""

import signal
import sys
from types import FrameType
from typing import NoReturn


def end(number: int, _: FrameType | None) -> NoReturn:
    """Leave by the way that gives the terminal its cursor back."""
    signal.signal(number, signal.SIG_IGN)  # make sends it once more
    raise SystemExit(128 + number)


if __name__ == "__main__":  # before what takes its time
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored

try:  # this takes a second, in which Ctrl-C may come as well
    import argparse
    import asyncio
    import logging
    import os
    import secrets
    import socket
    from pathlib import Path
    from urllib.parse import quote

    import uvicorn
    from fastapi import FastAPI
    from rich.console import Console

    import glasscache_exporters
    from glasscache.errors import ConfigurationError
    from knowledge.caching import add_cache, make_cache
    from knowledge.corpus import load_corpus
    from knowledge.retrieval import Retriever
    from knowledge.service import build_app
    from traffic.screen import bar
except KeyboardInterrupt:
    raise SystemExit(130) from None

EXAMPLES = Path(__file__).resolve().parent
VECTORS = EXAMPLES.parent / "build"
HOST = "127.0.0.1"
SEARCH_TTL = 1  # seconds: short enough that searches are seen to go stale while the visitors are at it
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(prog="demo.py", description="Show glasscache at work before a knowledge service.")
    parser.add_argument("--once", action="store_true", help="end after the show instead of staying up")
    parser.add_argument("--port", type=int, default=0, help="port to serve on (a free one)")
    parser.add_argument("--uncached", action="store_true", help="the same without glasscache, to compare")
    parser.add_argument("--passages", type=int, help="index this many passages only (all, about 1,800)")
    parser.add_argument("--requests", type=int, default=400, help="questions in the stream (400)")
    parser.add_argument("--burst", type=int, default=200, help="identical questions at once (200)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another order of questions (7)")
    return parser.parse_args()


def listen(port: int) -> socket.socket:
    """A listening socket: visitors can connect from here on, and are answered once the service runs."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvloop does so only for its own
        listener.bind((HOST, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise SystemExit(f"Cannot serve on port {port} ({error}): name another one with --port.") from error
    return listener


def build(options: argparse.Namespace, console: Console) -> FastAPI:
    """Read the corpus, index it and put the cache in front."""
    os.environ.setdefault("GLASSCACHE_KEY", secrets.token_urlsafe(32))  # CACHE_TYPE=hybrid needs one; this run's own
    os.environ.setdefault("GLASSCACHE_STATS_TOKEN", secrets.token_urlsafe(12))
    os.environ.setdefault("GLASSCACHE_CONTENTION_THRESHOLD", "0.1")  # seconds: an answer takes 0.3
    cache = make_cache()  # first: a mistake in the environment is told at once
    passages = load_corpus(options.passages)
    with bar(console) as progress:
        task = progress.add_task("Index Python's documentation", total=len(passages))
        retriever = Retriever(passages, folder=VECTORS, progress=lambda done: progress.advance(task, done))
    app = build_app(retriever)
    if not options.uncached:
        add_cache(app, cache, search_ttl=SEARCH_TTL)
    return app


class Server(uvicorn.Server):
    """uvicorn, which on Ctrl-C sends the visitors home before it closes its doors."""

    show: asyncio.Task[int]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the visitors' process, then the service."""
        self.show.cancel()
        await asyncio.wait([self.show])
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that work was cut off is no news now
        await super().shutdown(sockets)


async def serve(app: FastAPI, listener: socket.socket, options: argparse.Namespace, console: Console) -> int:
    """Run the service and its visitors; the visitors' exit code."""
    server = Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
    server.show = asyncio.create_task(visit(server, listener, options, console))
    await server.serve(sockets=[listener])
    return await server.show


async def visit(server: Server, listener: socket.socket, options: argparse.Namespace, console: Console) -> int:
    """Send the visitors, then end the service or tell the user how to try it; the visitors' exit code."""
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    console.print(f"Serving on [bold]{url}[/]\n")
    if not (options.once or options.uncached):
        console.print(f"Watch it live:\n{live_page(url)}\n", markup=False, soft_wrap=True)
    arguments = [url, *(f"--{name}={getattr(options, name)}" for name in ("requests", "burst", "seed"))]
    if options.uncached:
        arguments.append("--uncached")
    crowd = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "traffic",
        *arguments,
        cwd=EXAMPLES,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends them in order
    )
    try:
        code = await crowd.wait()
    finally:
        if crowd.returncode is None:
            crowd.terminate()
            await crowd.wait()
    if options.once or code:
        server.should_exit = True
    else:
        console.print(TRY.format(url=url, ttl=SEARCH_TTL, second=second_machine()), markup=False, soft_wrap=True)
    return code


def second_machine() -> str:
    """How to start one that shares the answers of this one; nothing where they are kept in this process alone."""
    kind, where = os.environ.get("CACHE_TYPE", "memory"), os.environ.get("REDIS_URL", "")
    if kind == "memory":
        return ""
    shown = "$REDIS_URL" if "@" in where else where  # a password belongs on no screen
    return SECOND.format(key=os.environ["GLASSCACHE_KEY"], kind=kind, where=shown)


def live_page(url: str) -> str:
    """Where the cache is drawn as it works; what stands after # stays in the browser."""
    return f"{url}/metrics/cache/live#token={quote(os.environ['GLASSCACHE_STATS_TOKEN'])}"


TRY = """
Try it, twice: the second answer comes from the cache. A search is fresh for {ttl} s, then stale.

  curl -i {url}/ask -H 'content-type: application/json' \\
    -d '{{"question": "What does the with statement do?"}}'

  curl -i '{url}/search?q=sort+a+list&limit=3'

  curl -N {url}/ask/stream -H 'content-type: application/json' \\
    -d '{{"question": "How do I cancel a task?"}}'

  curl {url}/metrics/cache
{second}
Ctrl-C ends it.
"""

SECOND = """
A second machine, in another terminal, finds the answers of this one there:

  GLASSCACHE_KEY={key} \\
    CACHE_TYPE={kind} REDIS_URL={where} make demo
"""


def main() -> int:
    """Exit code: 0, 1 where something is wrong with the set-up or the answers, 130 after Ctrl-C, 143 after SIGTERM."""
    options = arguments()
    logging.getLogger("glasscache").setLevel(logging.ERROR)  # that a wait was long is no news on a busy laptop
    console = Console(highlight=False)
    with listen(options.port) as listener:
        try:
            app = build(options, console)
            if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
                glasscache_exporters.configure(service_name="knowledge")
        except ConfigurationError as mistake:
            raise SystemExit(str(mistake)) from None
        return asyncio.run(serve(app, listener, options, console))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
