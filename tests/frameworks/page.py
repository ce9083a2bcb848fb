"""Writes docs/frameworks.md from the table: `python -m tests.frameworks.page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.frameworks.contract import RUNNING, STOPPED
from tests.frameworks.servers import SERVERS, Server
from tests.frameworks.table import EXEMPTIONS, FRAMEWORKS, Framework, exempt

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
FEATURES = {**RUNNING, **STOPPED}


def page() -> str:
    """The page's text."""
    return "\n".join([*_matrix(), *_contract(), *_exemptions(), *_mounting(), _VALUES, _SERVERS])


def _matrix() -> Iterator[str]:
    yield "# Frameworks and servers"
    yield ""
    yield "<!-- Written by `python -m tests.frameworks.page` from tests/frameworks/table.py; a test compares them. -->"
    yield ""
    yield "One contract is tested in each of these cells, on a real server started by its command line. A number says"
    yield f"how many of its {len(FEATURES)} points hold; the others are explained below, and the test proves that they"
    yield "do not hold."
    yield ""
    yield "| | " + " | ".join(server.title for server in SERVERS) + " |"
    yield "|---|" + "---|" * len(SERVERS)
    for framework in FRAMEWORKS:
        yield f"| {framework.title} | " + " | ".join(_cell(framework, server) for server in SERVERS) + " |"
    yield ""


def _cell(framework: Framework, server: Server) -> str:
    missing = exempt(framework, server)
    if not missing:
        return "all"
    numbers = sorted({EXEMPTIONS.index(exemption) + 1 for exemption in missing.values()})
    return f"{len(FEATURES) - len(missing)} " + " ".join(f"[{number}](#exceptions)" for number in numbers)


def _contract() -> Iterator[str]:
    yield "## The contract"
    yield ""
    for name, check in FEATURES.items():
        yield f"- **{name.replace('_', ' ')}**: {check.__doc__}"
    yield ""


def _exemptions() -> Iterator[str]:
    yield "## Exceptions"
    yield ""
    for number, exemption in enumerate(EXEMPTIONS, 1):
        yield f"{number}. {', '.join(exemption.features)}: {exemption.reason}"
    yield ""


def _mounting() -> Iterator[str]:
    yield "## Where the cache goes"
    yield ""
    for framework in FRAMEWORKS:
        yield f"- **{framework.title}** ([example](../examples/frameworks/{framework.id}_app.py)): {framework.mounting}"
        yield from (f"  {note}" for note in framework.notes)
    yield ""
    yield "Where in the stack, and what happens elsewhere: [order.md](order.md)."
    yield ""


_VALUES = """\
## Values: `@cache.cached` under a framework's own decorator

`@cache.cached` stands nearest to the function. What comes out is an async function to every framework, with the
parameters and annotations of the one that was written:

```python
@app.get("/passages/{question}")  # FastAPI; Litestar, Quart and BlackSheep alike
@cache.cached(ttl=60)
async def passages(question: str) -> list[Passage]: ...
```

So do dependencies of FastAPI and Litestar, methods of Litestar's controllers (`ignore=("self",)`), endpoints of
Starlette, `async` views of Django and fields of Strawberry. Two things cannot be kept:

- **A request** is part of no key: `ignore=("request",)` where the value does not depend on it, else
  `key=lambda request: request.path_params["question"]`.
- **A response** is no value: what returns a `Response` (endpoints of Starlette, views of Django) is called each time,
  and the log says so, once. Cache the function that finds what is answered, or the answer itself, by `CacheMiddleware`.
"""


_SERVERS = """\
## Servers as they are deployed

**SIGTERM amid a load** (`tests/frameworks/test_deployments.py`): uvicorn, also with `--workers`, gunicorn with
uvicorn's workers, also with `--preload`, hypercorn in one process and granian, also with `--workers`, answer those who
wait, end the app's lifespan and themselves, and log no error. `uvicorn --reload` does the same before it starts anew,
with an empty memory. What they do otherwise, with or without a cache:

- hypercorn with several workers: the first one that has ended takes the others with it, and cuts their requests. Run
  several hypercorns of one process each.
- granian: a SIGTERM that comes while a worker starts is lost on it, and the end then waits for ever.
- daphne cuts all requests.

**HTTP/2** of hypercorn and granian: one entry for an authority, however it is written and whichever field it comes in;
cookies in several fields are one credential.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
