"""The knowledge service: questions in, ranked passages out, over HTTP.

Decides the routes and their bodies. Must never rank on the event loop (two threads do, so two questions are
worked on at once), nor know of the cache in front of it (`knowledge.caching`): what `Work` counts are loads.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from knowledge.corpus import Kind
from knowledge.retrieval import Candidate, Ranked, Retriever

T = TypeVar("T")

SHOWN: Final = 5
"""How many passages an answer carries."""


class Filters(BaseModel):
    """Which passages may answer; what is None is not asked about."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind | None = None
    module: str | None = Field(default=None, max_length=64)


class Question(BaseModel):
    """The body of `/ask` and `/ask/stream`; `user` and `trace_id` do not change the answer."""

    question: str = Field(min_length=1, max_length=500)
    filters: Filters = Filters()
    user: str | None = None
    trace_id: str | None = None


class PassageOut(BaseModel):
    """One passage of an answer."""

    source: str
    module: str
    kind: Kind
    score: float
    quote: str
    text: str


class Answer(BaseModel):
    """What `/ask` answers: the best passages and, as `answer`, the sentence of the best one."""

    question: str
    answer: str
    passages: list[PassageOut]


class Hit(BaseModel):
    """One line of `/search`: rank in each of the two rankings, 0 where it is in none."""

    source: str
    kind: Kind
    score: float
    word_rank: int
    meaning_rank: int
    text: str


@dataclass(slots=True)
class Work:
    """What the service itself did, counted where it is done: no cache in front can make it look good."""

    answers: int = 0


class Knowledge:
    """The retriever behind two worker threads."""

    def __init__(self, retriever: Retriever) -> None:
        self.work = Work()
        self._retriever = retriever
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="retrieval")

    async def answer(self, question: Question) -> Answer:
        """Rank and rerank: about 0.3 s of computing."""
        self.work.answers += 1
        ranked = await self._in_thread(self._rank, question)
        return _answer(question, ranked)

    async def events(self, question: Question) -> AsyncIterator[str]:
        """The same as server-sent events: the shortlist, each passage once it is read, then the answer."""
        self.work.answers += 1
        shortlist = await self._in_thread(self._retriever.shortlist, question.question, _filters(question))
        yield _event("shortlist", {"sources": [one.passage.source for one in shortlist.candidates]})
        ranked = []
        for candidate in shortlist.candidates:
            one = await self._in_thread(self._retriever.weigh, candidate, shortlist)
            ranked.append(one)
            yield _event(
                "passage",
                {"source": candidate.passage.source, "score": round(one.score, 4), "quote": one.quote},
            )
        ranked.sort(key=lambda one: (-one.score, one.candidate.passage.id))
        yield _event("answer", _answer(question, ranked).model_dump())

    async def search(self, words: str, limit: int) -> list[Candidate]:
        """Rank only: about 10 ms."""
        shortlist = await self._in_thread(self._retriever.shortlist, words, {}, limit)
        return shortlist.candidates

    def close(self) -> None:
        """Wait for the work at hand, then give threads and index back."""
        self._threads.shutdown(cancel_futures=True)
        self._retriever.close()

    def _rank(self, question: Question) -> list[Ranked]:
        return self._retriever.rerank(self._retriever.shortlist(question.question, _filters(question)))

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


def build_app(retriever: Retriever) -> FastAPI:
    """The service over `retriever`, which it closes at shutdown."""
    knowledge = Knowledge(retriever)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        knowledge.close()

    app = FastAPI(title="Python knowledge", lifespan=lifespan)

    @app.api_route("/ask", methods=["POST", "QUERY"])
    async def ask(question: Question) -> Answer:
        return await knowledge.answer(question)

    @app.post("/ask/stream")
    async def ask_stream(question: Question) -> StreamingResponse:
        return StreamingResponse(knowledge.events(question), media_type="text/event-stream")

    @app.get("/search")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=500)], limit: Annotated[int, Query(ge=1, le=50)] = 10
    ) -> list[Hit]:
        return [_hit(candidate) for candidate in await knowledge.search(q, limit)]

    @app.get("/work")
    async def work() -> Work:
        return knowledge.work

    return app


def _filters(question: Question) -> Mapping[str, str]:
    return question.filters.model_dump(exclude_none=True)


def _answer(question: Question, ranked: list[Ranked]) -> Answer:
    passages = [
        PassageOut(
            source=one.candidate.passage.source,
            module=one.candidate.passage.module,
            kind=one.candidate.passage.kind,
            score=round(one.score, 4),
            quote=one.quote,
            text=one.candidate.passage.text,
        )
        for one in ranked[:SHOWN]
    ]
    return Answer(question=question.question, answer=passages[0].quote if passages else "", passages=passages)


def _hit(candidate: Candidate) -> Hit:
    return Hit(
        source=candidate.passage.source,
        kind=candidate.passage.kind,
        score=round(candidate.score, 5),
        word_rank=candidate.word_rank,
        meaning_rank=candidate.meaning_rank,
        text=candidate.passage.text,
    )


def _event(name: Literal["shortlist", "passage", "answer"], data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
