"""The corpus: Python's language reference and the docstrings of the standard library, cut into passages.

Decides which modules are read, how their text is cut and in which order the passages come: the same
interpreter always gives the same passages with the same numbers.
Must never import a module to read its docstrings (some act on import): sources are parsed, not run.
"""

import ast
import builtins
import inspect
import itertools
import math
import re
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType
from typing import Literal

Kind = Literal["topic", "module", "class", "function"]

MAX_CHARS = 1_000
"""A passage's text is cut at a paragraph once it is about this long: an embedding can still tell it apart."""
MIN_CHARS = 145
"""Shorter docstrings ("Return a copy.") answer no question."""

_NAMES = """
    abc argparse ast asyncio base64 bisect calendar collections concurrent configparser contextlib copy csv
    ctypes dataclasses datetime decimal difflib dis enum fileinput fnmatch fractions functools getpass glob
    graphlib gzip hashlib heapq hmac html http importlib inspect io ipaddress json keyword linecache logging
    lzma mimetypes multiprocessing numbers operator os pathlib pickle pkgutil platform pprint queue random re
    sched secrets selectors shelve shlex shutil signal socket socketserver sqlite3 ssl statistics string
    subprocess tarfile tempfile textwrap threading timeit tokenize tomllib trace traceback tracemalloc types
    typing unittest urllib uuid venv warnings weakref zipfile zoneinfo
"""
MODULES = tuple(_NAMES.split())
"""Read from their sources, packages with their submodules."""

BUILT_IN: tuple[ModuleType, ...] = (builtins, itertools, math, time)
"""Written in C, so there is no source to parse; importing them does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One piece of documentation that can be the answer to a question.

    `source` is where it stands ("asyncio.tasks.gather", "topic with"), `module` its top-level module
    ("reference" for the language reference), `text` what is ranked and quoted.
    """

    id: int
    source: str
    module: str
    kind: Kind
    text: str


def load_corpus(limit: int | None = None) -> list[Passage]:
    """All passages in a fixed order, or `limit` of them spread evenly over the whole corpus."""
    found = [*_from_topics(), *_from_built_in(), *_from_sources(Path(sysconfig.get_path("stdlib")))]
    if limit is not None and limit < len(found):
        found = [found[number * len(found) // limit] for number in range(limit)]
    return [
        Passage(id=number, source=source, module=module, kind=kind, text=text)
        for number, (source, module, kind, text) in enumerate(found)
    ]


_Row = tuple[str, str, Kind, str]


def _from_topics() -> Iterator[_Row]:
    for name in sorted(topics):
        for text in cut(topics[name]):
            yield f"topic {name}", "reference", "topic", text


def _from_built_in() -> Iterator[_Row]:
    for module in BUILT_IN:
        for name, member in sorted(vars(module).items()):
            text = inspect.getdoc(member) if callable(member) and not name.startswith("_") else None
            if text is not None and len(text) >= MIN_CHARS:
                kind: Kind = "class" if isinstance(member, type) else "function"
                for part in cut(text):
                    yield f"{module.__name__}.{name}", module.__name__, kind, part


def _from_sources(root: Path) -> Iterator[_Row]:
    for name in MODULES:
        for path in _files(root, name):
            parts = path.relative_to(root).with_suffix("").parts
            dotted = ".".join(part for part in parts if part != "__init__")
            yield from _from_node(ast.parse(path.read_bytes()), dotted, name, heading=dotted)


def _files(root: Path, name: str) -> list[Path]:
    single = root / f"{name}.py"
    if single.is_file():
        return [single]
    return sorted(
        path
        for path in (root / name).rglob("*.py")
        if "test" not in path.parts and (not path.name.startswith("_") or path.name == "__init__.py")
    )


def _from_node(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    dotted: str,
    module: str,
    *,
    heading: str,
) -> Iterator[_Row]:
    text = ast.get_docstring(node)
    if text is not None and len(text) >= MIN_CHARS:
        for part in cut(text):
            yield dotted, module, _kind(node), f"{heading}: {part}"
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                name = f"{dotted}.{child.name}"
                yield from _from_node(child, name, module, heading=_heading(child, name))


def _kind(node: ast.AST) -> Kind:
    return "module" if isinstance(node, ast.Module) else "class" if isinstance(node, ast.ClassDef) else "function"


def _heading(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    return name if isinstance(node, ast.ClassDef) else f"{name}({ast.unparse(node.args)})"


def cut(text: str) -> Iterator[str]:
    """Cut `text` into pieces of about `MAX_CHARS` at most, between paragraphs only."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if piece and len(piece) + len(paragraph) > MAX_CHARS:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    if piece:
        yield piece
