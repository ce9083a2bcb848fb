"""`python -m traffic URL`: send the knowledge service at URL its visitors and tell what happened.

Decides what is sent in which order. Must never start or stop the service: it is whoever runs it that does.
"""

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable

import httpx
from rich.console import Console
from rich.progress import Progress, TaskID

from traffic import screen
from traffic.client import Reply, Visitors, visitors
from traffic.questions import BURST_QUESTION, STREAM_QUESTION, Ask, search_terms, stream

VISITORS = 4
SEARCHES_PER_SECOND = 100


async def run(options: argparse.Namespace, console: Console) -> None:
    """Questions, searches, a burst, the readers of one event stream, then the service's own figures."""
    async with visitors(options.url) as crowd:
        await _questions(crowd, options, console)
        await _searches(crowd, options, console)
        await _burst(crowd, options.burst, console)
        await _event_stream(crowd, max(2, options.burst // 10), console)
        if not options.uncached:
            console.print()
            console.print(screen.statistics(await crowd.read("/metrics/cache")))


async def _questions(crowd: Visitors, options: argparse.Namespace, console: Console) -> None:
    replies: list[Reply] = []
    with screen.bar(console) as progress:
        task = progress.add_task(f"{VISITORS} visitors: POST /ask", total=options.requests)
        await crowd.questions(
            stream(options.seed, options.requests), at_once=VISITORS, done=_noting(replies, progress, task)
        )
    console.print(screen.outcomes(replies))
    if line := screen.side_by_side(replies):
        console.print(line)
    console.print()


async def _searches(crowd: Visitors, options: argparse.Namespace, console: Console) -> None:
    replies: list[Reply] = []
    with screen.bar(console) as progress:
        task = progress.add_task(f"{SEARCHES_PER_SECOND} a second: GET /search", total=options.requests)
        queries = search_terms(options.seed, options.requests)
        done = _noting(replies, progress, task)
        await crowd.searches(queries, per_second=SEARCHES_PER_SECOND, done=done)
    console.print(screen.outcomes(replies))


def _noting(replies: list[Reply], progress: Progress, task: TaskID) -> Callable[[Reply], None]:
    def done(reply: Reply) -> None:
        replies.append(reply)
        progress.advance(task)

    return done


async def _burst(crowd: Visitors, times: int, console: Console) -> None:
    before = await crowd.read("/work")
    replies = await crowd.burst(Ask(body={"question": BURST_QUESTION}), times)
    loads = (await crowd.read("/work"))["answers"] - before["answers"]
    slowest = screen.milliseconds(max(reply.total for reply in replies))
    console.print(
        f"\n[bold]Burst[/]: {times} identical questions at once came to [bold]{_loads(loads)}[/]; "
        f"all {times} were answered within {slowest}.\n{_counts(replies)}."
    )


async def _event_stream(crowd: Visitors, readers: int, console: Console) -> None:
    before = await crowd.read("/work")
    replies = await crowd.burst(Ask(body={"question": STREAM_QUESTION}), readers, "/ask/stream")
    loads = (await crowd.read("/work"))["answers"] - before["answers"]
    first, last = (max(times) for times in zip(*((one.first, one.total) for one in replies), strict=True))
    same = "the same" if len({reply.body for reply in replies}) == 1 else "DIFFERENT"
    console.print(
        f"[bold]Event stream[/]: {readers} readers came to [bold]{_loads(loads)}[/] and read {same} events: "
        f"the first by {screen.milliseconds(first)}, the last by {screen.milliseconds(last)}.\n"
        f"{_counts(replies)}."
    )


def _loads(count: int) -> str:
    return "1 load" if count == 1 else f"{count} loads"


def _counts(replies: list[Reply]) -> str:
    counted = Counter(reply.outcome for reply in replies)
    return "Cache-Status: " + ", ".join(f"{count} {outcome}" for outcome, count in counted.most_common())


def arguments() -> argparse.Namespace:
    """Where to ask, what and how much."""
    parser = argparse.ArgumentParser(prog="python -m traffic", description="Visit the knowledge service.")
    parser.add_argument("url", help="where the service is, for example http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=400, help="questions in the stream (400)")
    parser.add_argument("--burst", type=int, default=200, help="identical questions at once (200)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another order of questions (7)")
    parser.add_argument("--uncached", action="store_true", help="there is no cache in front")
    return parser.parse_args()


def main() -> int:
    """Exit code 0, 1 where the service failed, 130 after Ctrl-C or SIGTERM."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal gets its cursor back
        options, console = arguments(), Console(highlight=False)
        asyncio.run(run(options, console))
    except KeyboardInterrupt:
        return 130
    except (httpx.HTTPError, OSError, EOFError, ExceptionGroup) as failure:
        print(f"The service did not answer: {failure!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
