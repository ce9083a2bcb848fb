"""What the visitors ask: questions about Python in several wordings, some far more often than others.

Decides the order of a run from its seed alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

QUESTIONS: tuple[tuple[str, ...], ...] = (
    (
        "How do I run two coroutines at the same time?",
        "run coroutines concurrently",
        "asyncio: many tasks at once",
    ),
    ("What does the with statement do?", "explain the with statement", "with statement context manager"),
    ("How do I read a CSV file?", "read csv file with a header row", "parse CSV into dictionaries"),
    (
        "How do I sort a list by a key?",
        "sort a list of dictionaries by one field",
        "sorted with a key function",
    ),
    (
        "How do I delete a directory and all in it?",
        "remove a folder recursively",
        "delete non-empty directory",
    ),
    ("What is the difference between is and ==?", "is versus == in Python", "identity or equality?"),
    ("How do I set a timeout on an awaitable?", "cancel a coroutine after some seconds", "asyncio timeout"),
    ("How do I parse a date from a string?", "string to datetime", "parse ISO 8601 date"),
    ("How do I catch an exception?", "try except finally explained", "handle errors in Python"),
    ("How do I make a class iterable?", "write my own iterator", "what must __iter__ return?"),
    ("How do I run an external command?", "call a program and read its output", "subprocess capture stdout"),
    ("How do I write a decorator?", "what is a decorator", "decorate a function with arguments"),
    ("How do I read a file line by line?", "iterate over lines of a text file", "open a file and read it"),
    ("How do I find all files that match a pattern?", "glob for *.py recursively", "list files by wildcard"),
    ("How do I turn an object into JSON?", "serialize to JSON", "json encode a custom class"),
    ("How do I count things in a list?", "count occurrences of items", "most common elements"),
    ("What is a generator?", "what does yield do", "generator expression or list"),
    ("How do I log to a file?", "logging with rotation", "write log messages to a rotating file"),
    (
        "How do I compare two sequences and see the differences?",
        "diff of two texts",
        "unified diff in Python",
    ),
    ("How do I make a random password?", "secure random token", "generate a secret for a reset link"),
    ("How do I hash a password?", "sha256 of a string", "check a message's signature"),
    ("How do I format a number with two decimals?", "format string syntax", "f-string with a width"),
    ("How do I merge two dictionaries?", "combine dicts", "union of mappings"),
    ("How do I share data between threads?", "thread-safe queue", "lock around shared state"),
    ("How do I cache the result of a function?", "memoize a function", "lru_cache explained"),
    ("How do I copy an object deeply?", "deep copy or shallow copy", "copy nested lists"),
    ("What is a metaclass?", "customize class creation", "when is __init_subclass__ called?"),
    ("How do I compute a median?", "average and standard deviation", "statistics of a list of numbers"),
    ("How do I open a TCP connection?", "simple socket server", "asyncio stream client"),
    ("How do I parse command line arguments?", "argparse with subcommands", "options for a script"),
    (
        "How do I write a unit test?",
        "assert that an exception is raised in a test",
        "mock an object in a test",
    ),
    (
        "What are type hints for a function that takes any callable?",
        "annotate a callback",
        "generic type variables",
    ),
    (
        "How do I replace text with a regular expression?",
        "regex substitute groups",
        "match a pattern in a string",
    ),
    ("How do I get the number of CPUs?", "how many cores are there", "run work in several processes"),
    ("How do I make a temporary file?", "temporary directory that removes itself", "scratch file"),
    ("How do I unpack a zip archive?", "extract a tar file safely", "read one member of an archive"),
    ("What does global mean?", "nonlocal versus global", "scope of a variable"),
    ("How do I split an iterable into chunks?", "batches of n items", "group consecutive items"),
    ("How do I make an enum?", "enumeration with flags", "constants with names"),
    (
        "How do I find out why my program uses much memory?",
        "trace memory allocations",
        "where was it allocated?",
    ),
)
"""One row per intent: the first wording is the most common one."""

BURST_QUESTION = "Everybody wants to know at once: what is new about exception groups and except*?"
STREAM_QUESTION = "How does an async for loop work?"

SKEW = 1.05
"""Exponent of the Zipf distribution over all wordings: what is asked by real crowds lies near 1."""
PRIVATE_SHARE = 0.02
"""Share of requests with credentials: the cache has to leave them alone."""
STRANGE_SHARE = 0.01
"""Share of bodies with a field that the rule does not know: bypassed as well, it may change the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to `/ask`: its JSON body and its headers."""

    body: dict[str, object]
    headers: dict[str, str] = field(default_factory=dict)


def stream(seed: int, length: int) -> Iterator[Ask]:
    """`length` requests; the same seed gives the same ones."""
    random = Random(seed)
    wordings = popularity(random)
    weights = list(accumulate(1 / rank**SKEW for rank in range(1, len(wordings) + 1)))
    for number in range(length):
        (question,) = random.choices(wordings, cum_weights=weights)
        body: dict[str, object] = {
            "question": question,
            "user": f"user-{number % 17}",
            "trace_id": f"{number:08x}",
        }
        headers: dict[str, str] = {}
        lot = random.random()
        if lot < PRIVATE_SHARE:
            headers["authorization"] = f"Bearer of-user-{number % 17}"
        elif lot < PRIVATE_SHARE + STRANGE_SHARE:
            body["temperature"] = 0.2
        yield Ask(body=body, headers=headers)


def search_terms(seed: int, length: int) -> Iterator[str]:
    """`length` searches for 20 different things."""
    random = Random(seed)
    wordings = popularity(random)[-20:]
    for _ in range(length):
        yield random.choice(wordings)


def popularity(random: Random) -> list[str]:
    """All wordings, most popular first: intents in a shuffled order, first wordings before second ones."""
    intents = list(QUESTIONS)
    random.shuffle(intents)
    turns = range(max(map(len, intents)))
    return [intent[turn] for turn in turns for intent in intents if turn < len(intent)]
