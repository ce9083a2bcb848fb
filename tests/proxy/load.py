"""`make load`: `glasscache proxy` under wrk and h2load, with an upstream that is well, and with one that breaks off.

Measures requests a second, and proves meanwhile that no part of an answer is stored and nobody gets another's: every
path has a body that follows from it, so that each whole answer can be checked. Fails if one is wrong. The figures are
of one process each for the upstream, the proxy and the load, on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import uvloop

from tests.conformance.suite import running
from tests.support.ending import end_in_order
from tests.support.ports import free_port
from tests.support.servers import CutOff, RawConnection

SIZE = 4096
PATHS = 200
_CONNECTIONS = 64
_HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=%d\r\nContent-Type: text/plain\r\n"
_BROKEN = 0.5
"""Share of the answers that break off, where any do."""

_UNIQUE = """
local number = 0
local me = tostring(math.random(1e9))
request = function()
  number = number + 1
  return wrk.format("GET", "/unique/" .. me .. "/" .. number)
end
"""
_SOME = """
local number = 0
request = function()
  number = number + 1
  return wrk.format("GET", "/broken/" .. number %% %d)
end
"""


def body_of(path: str) -> bytes:
    """The one right answer."""
    return (hashlib.sha256(path.encode()).hexdigest() * (SIZE // 64)).encode()


# --- the upstream ---------------------------------------------------------------------------------------------------


class Origin(asyncio.Protocol):
    """Answers GETs; those under /broken/ for a second, and half of them not to the end."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        *requests, self._asked = (self._asked + data).split(b"\r\n\r\n")  # none has content
        for request in requests:
            if not self._transport.is_closing():
                self._answer(request.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        body = body_of(path)
        is_broken = path.startswith("/broken/")
        head = _HEAD % (1 if is_broken else 3600)
        whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)
        if is_broken and random.random() < _BROKEN:
            self._break(whole, chunked)
        else:
            self._transport.write(random.choice((whole, chunked + b"0\r\n\r\n")))

    def _break(self, whole: bytes, chunked: bytes) -> None:
        cut = random.randrange(len(whole))
        said, resets = random.choice(((whole[:cut], False), (whole[:cut], True), (chunked, False), (b"\0" * 99, False)))
        self._transport.write(said)
        if resets:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()


async def serve(port: int) -> None:
    """Be the upstream."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


# --- the load -------------------------------------------------------------------------------------------------------


def wrk(url: str, seconds: int, script: str, folder: Path) -> str:
    """What wrk reached: requests a second, and the latency of half and of all but one in a hundred."""
    file = folder / "script.lua"
    file.write_text(script, "utf-8")
    tell = ("-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", str(file), url)
    said = subprocess.run(["wrk", *tell], capture_output=True, text=True, check=True).stdout
    figures = [
        found[1]
        for pattern in (r"Requests/sec:\s+(\S+)", r"50%\s+(\S+)", r"99%\s+(\S+)")
        if (found := re.search(pattern, said))
    ]
    return f"{float(figures[0]):>9,.0f} requests/s, half within {figures[1]}, 99 % within {figures[2]}"


def h2load(url: str, seconds: int) -> str:
    """What h2load reached, and that nothing failed."""
    tell = ("--h1", "-t1", f"-c{_CONNECTIONS}", f"-D{seconds}", url)
    said = subprocess.run(["h2load", *tell], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"([\d.]+) req/s", said)
    failed = re.search(r"(\d+) failed, (\d+) errored", said)
    assert rate, said
    assert failed, said
    return f"{float(rate[1]):>9,.0f} requests/s, {failed[1]} failed, {failed[2]} errors"


async def check(port: int, seconds: float) -> Counter[str]:
    """Ask for broken paths, and look at every answer that ends well; how many there were of which kind."""
    found: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def ask() -> None:
        while loop.time() < end:
            path = f"/broken/{random.randrange(PATHS)}"
            with suppress(ConnectionError):
                async with RawConnection(port) as raw:
                    await raw.request("GET", path)
                    try:
                        head, body = await raw.head(), await raw.body()
                    except CutOff:
                        found["cut"] += 1
                        continue
                    if head.status != 200:
                        found[str(head.status)] += 1
                    elif body == body_of(path):
                        hit = "hit" in (head.cache_status or "")
                        found["right, from the cache" if hit else "right, loaded"] += 1
                    else:
                        found["WRONG"] += 1

    await asyncio.gather(*(ask() for _ in range(8)))
    return found


def run(seconds: int) -> int:
    """Measure, print, and tell whether all was right."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glasscache-load-")))
        origin, port = stack.enter_context(free_port()), stack.enter_context(free_port())
        command = [sys.executable, "-m", "tests.proxy.load", "--serve", str(origin)]
        stack.enter_context(running("the upstream", command, origin, folder / "origin.log"))
        command = [sys.executable, "-m", "glasscache", "proxy", "--port", str(port)]
        command += ["--upstream", f"http://127.0.0.1:{origin}"]
        env = os.environ | {"CACHE_MAX_SIZE": "1000"}
        stack.enter_context(running("the proxy", command, port, folder / "proxy.log", env=env))
        url = f"http://127.0.0.1:{port}"
        print(f"hits, wrk:       {wrk(f'{url}/hot', seconds, '', folder)}", flush=True)
        print(f"hits, h2load:    {h2load(f'{url}/hot', seconds)}", flush=True)
        print(f"misses, wrk:     {wrk(url, seconds, _UNIQUE, folder)}", flush=True)
        script = folder / "some.lua"
        script.write_text(_SOME % PATHS, "utf-8")
        tell = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
        with subprocess.Popen(tell, stdout=subprocess.DEVNULL) as load:
            found = uvloop.run(check(port, seconds - 0.5))
            load.wait()
        print("broken upstream: " + ", ".join(f"{count} {what}" for what, count in sorted(found.items())))
        return 1 if found["WRONG"] or not found["right, from the cache"] else 0


def main() -> int:
    """Be the upstream, or the load."""
    parser = argparse.ArgumentParser(prog="make load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement (default: %(default)s)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
    for tool, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
        if shutil.which(tool) is None:
            sys.exit(f"make load: {tool} is not on the path; Debian has it in the package {package}")
    return run(options.seconds)


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
