"""From a question to ranked passages: words and meaning fused, then sentences of the best passages weighed.

Decides the ranking: BM25 (SQLite FTS5) and the embedding model each name candidates, reciprocal rank fusion
joins the two lists, and the rerank embeds sentences of the candidates to find the one that answers.
Must never sleep or pretend: what a question costs is what the model and the index take.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from knowledge.corpus import Passage
from knowledge.embedding import Embedder, Vectors, embed_once

DEPTH = 50
"""How many passages each of the two rankings may name."""
RERANKED = 12
"""How many of the fused candidates are read sentence by sentence."""
SENTENCES = 2
"""How many sentences of one passage are weighed: those that share most words with the question."""

_FUSION = 60  # the constant of reciprocal rank fusion (Cormack, Clarke, Buettcher: SIGIR 2009)
_COMMON = """
    a an and are at be by can do does for from how i in is it me my of on or should so that the this to use
    what when where which why with you
"""
_STOP_WORDS = frozenset(_COMMON.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A passage that words, meaning or both put forward.

    `score` is the fused one; ranks count from 1, and 0 stands for unranked.
    """

    passage: Passage
    score: float
    word_rank: int
    meaning_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate after the rerank.

    `quote` is its best sentence, `score` the mean of two cosines to the question: that sentence's and the
    whole passage's.
    """

    candidate: Candidate
    quote: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """What the index proposes for a question, best first, and the question's own vector."""

    words: frozenset[str]
    target: Vectors
    candidates: list[Candidate]


class Retriever:
    """The index over one corpus. Blocking and thread-safe: call it from worker threads."""

    def __init__(
        self,
        passages: Sequence[Passage],
        *,
        folder: Path,
        progress: Callable[[int], object] = lambda done: None,
    ) -> None:
        """Index `passages`.

        `folder` keeps their vectors for the next start; `progress` is told how many more are done.
        """
        self.passages = passages
        self._embedder = Embedder()
        texts = [f"{passage.source} {passage.text}" for passage in passages]
        self._vectors = embed_once(self._embedder, texts, folder, progress)
        self._lock = Lock()  # one SQLite connection for all threads; a query takes it for about a millisecond
        self._words = sqlite3.connect(":memory:", check_same_thread=False)
        self._words.execute("CREATE VIRTUAL TABLE passages USING fts5(source, text, tokenize='porter unicode61')")
        self._words.executemany(
            "INSERT INTO passages(rowid, source, text) VALUES (?, ?, ?)",
            ((passage.id, passage.source, passage.text) for passage in passages),
        )

    def close(self) -> None:
        """Give the index back."""
        self._words.close()

    def shortlist(self, question: str, filters: Mapping[str, str], limit: int = RERANKED) -> Shortlist:
        """The `limit` best passages by words and meaning together; `filters` are values of their fields."""
        allowed = np.array([all(getattr(one, k) == v for k, v in filters.items()) for one in self.passages], dtype=bool)
        words, target = words_of(question), self._embedder.embed([question])[0]
        word_ranks = {row: rank for rank, row in enumerate(self._by_words(words, allowed), 1)}
        meaning_ranks = {row: rank for rank, row in enumerate(self._by_meaning(target, allowed), 1)}
        found = [
            Candidate(
                passage=self.passages[row],
                score=sum(1 / (_FUSION + ranks[row]) for ranks in (word_ranks, meaning_ranks) if row in ranks),
                word_rank=word_ranks.get(row, 0),
                meaning_rank=meaning_ranks.get(row, 0),
            )
            for row in word_ranks | meaning_ranks
        ]
        found.sort(key=lambda one: (-one.score, one.passage.id))
        return Shortlist(words=words, target=target, candidates=found[:limit])

    def weigh(self, candidate: Candidate, shortlist: Shortlist) -> Ranked:
        """Read `candidate` sentence by sentence: which of them answers, and how well?"""
        sentences = sentences_of(candidate.passage.text)
        sentences.sort(key=lambda sentence: -len(shortlist.words & words_of(sentence)))  # stable: earlier ones win
        del sentences[SENTENCES:]
        scores = self._embedder.embed(sentences, max_tokens=32) @ shortlist.target
        best = int(np.argmax(scores))
        passage_score = self._vectors[candidate.passage.id] @ shortlist.target
        return Ranked(candidate=candidate, quote=sentences[best], score=float(scores[best] + passage_score) / 2)

    def rerank(self, shortlist: Shortlist) -> list[Ranked]:
        """All candidates weighed, best first."""
        ranked = [self.weigh(candidate, shortlist) for candidate in shortlist.candidates]
        return sorted(ranked, key=lambda one: (-one.score, one.candidate.passage.id))

    def _by_words(self, words: frozenset[str], allowed: NDArray[np.bool_]) -> list[int]:
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in sorted(words))
        sql = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 3.0, 1.0), rowid"
        with self._lock:
            rows = self._words.execute(sql, (query,)).fetchall()
        return [row for (row,) in rows if allowed[row]][:DEPTH]

    def _by_meaning(self, target: Vectors, allowed: NDArray[np.bool_]) -> list[int]:
        scores = np.where(allowed, self._vectors @ target, -2.0)
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        return [int(row) for row in best if allowed[row]]


def words_of(text: str) -> frozenset[str]:
    """The words that say what a text is about, in lower case."""
    return frozenset(re.findall(r"\w+", text.lower())) - _STOP_WORDS


def sentences_of(text: str) -> list[str]:
    """The sentences of a passage, white space made single; one too short to say something joins the next."""
    parts = re.split(r"(?<=[.!?:])\s+(?=[A-Z\"'(>*])|\n\s*\n", text)
    sentences: list[str] = []
    pending = ""
    for part in parts:
        pending = " ".join(f"{pending} {part}".split())
        if len(pending) >= 40:
            sentences.append(pending)
            pending = ""
    if pending or not sentences:
        sentences.append(pending)
    return sentences
