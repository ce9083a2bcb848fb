"""The examples' parts: the corpus, the ranking, the service without a cache, and what its visitors see."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest

import quickstart
from knowledge.corpus import MAX_CHARS, Passage, cut, load_corpus
from knowledge.embedding import Embedder
from knowledge.retrieval import RERANKED, Retriever, sentences_of
from knowledge.service import SHOWN, build_app
from traffic.client import Reply, outcome_of
from traffic.questions import QUESTIONS, popularity, stream
from traffic.screen import outcomes, percentile, side_by_side

EXAMPLES = Path(__file__).parents[2] / "examples"

TEXTS = {
    "shutil.rmtree": "Recursively delete a directory tree.",
    "csv.DictReader": "Read a CSV file; each row becomes a dictionary keyed by the header.",
    "asyncio.gather": "Run awaitables concurrently and return their results in order.",
    "statistics.median": "Return the median (middle value) of numeric data.",
    "json.dumps": "Serialize an object to a JSON formatted string.",
    "heapq.heappush": "Push an item onto the heap, keeping the heap invariant.",
}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    passages = [
        Passage(id=number, source=source, module=source.split(".")[0], kind="function", text=text)
        for number, (source, text) in enumerate(TEXTS.items())
    ]
    made = Retriever(passages, folder=tmp_path_factory.mktemp("vectors"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def corpus() -> list[Passage]:
    return load_corpus()


def best(retriever: Retriever, question: str) -> str:
    return retriever.rerank(retriever.shortlist(question, {}))[0].candidate.passage.source


class TestCorpus:
    def test_it_has_about_1800_passages_numbered_in_order(self, corpus: list[Passage]) -> None:
        assert 1_500 < len(corpus) < 2_300
        assert [passage.id for passage in corpus] == list(range(len(corpus)))

    def test_it_is_the_same_every_time_and_a_part_of_it_is_spread_over_the_whole(self, corpus: list[Passage]) -> None:
        part = load_corpus(60)
        assert [one.text for one in part] == [corpus[row * len(corpus) // 60].text for row in range(60)]
        assert {passage.kind for passage in part} >= {"topic", "class", "function"}

    def test_it_knows_the_reference_the_library_and_what_is_written_in_c(self, corpus: list[Passage]) -> None:
        sources = {passage.source for passage in corpus}
        assert {"topic with", "itertools.groupby", "shutil.rmtree"} <= sources

    def test_reading_it_runs_no_module_of_the_library(self) -> None:
        code = (
            "import sys; from knowledge.corpus import load_corpus; before = set(sys.modules); load_corpus();"
            "print([name for name in set(sys.modules) - before if not name.startswith('_')])"  # parts of what reads it
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_text_is_cut_between_paragraphs_and_nothing_is_lost(self) -> None:
        paragraphs = [str(number) * 300 for number in range(9)]
        pieces = list(cut("\n\n".join(paragraphs)))
        assert "\n\n".join(pieces).split("\n\n") == paragraphs
        assert all(len(piece) <= MAX_CHARS + 10 for piece in pieces)

    def test_one_long_paragraph_stays_whole(self) -> None:
        assert list(cut("x" * 5_000)) == ["x" * 5_000]


class TestRetrieval:
    @pytest.mark.parametrize(
        ("question", "source"),
        [
            ("How do I delete a folder and everything in it?", "shutil.rmtree"),
            ("read csv rows as dictionaries", "csv.DictReader"),
            ("run several coroutines at the same time", "asyncio.gather"),
            ("what is the middle value of my numbers", "statistics.median"),
        ],
    )
    def test_the_obvious_passage_comes_first(self, retriever: Retriever, question: str, source: str) -> None:
        assert best(retriever, question) == source

    def test_meaning_finds_what_shares_no_word_with_the_question(self, retriever: Retriever) -> None:
        shortlist = retriever.shortlist("erase folders", {})
        assert shortlist.candidates[0].passage.source == "shutil.rmtree"
        assert shortlist.candidates[0].word_rank == 0
        assert shortlist.candidates[0].meaning_rank == 1

    def test_a_question_of_nothing_but_common_words_and_signs_is_ranked_by_meaning_alone(
        self, retriever: Retriever
    ) -> None:
        shortlist = retriever.shortlist('what is the "?*', {})
        assert len(shortlist.candidates) == len(TEXTS)
        assert {one.word_rank for one in shortlist.candidates} == {0}

    def test_filters_leave_only_passages_that_have_those_values(self, retriever: Retriever) -> None:
        found = retriever.shortlist("read a file", {"module": "heapq"}).candidates
        assert [one.passage.source for one in found] == ["heapq.heappush"]
        assert retriever.shortlist("read a file", {"kind": "topic"}).candidates == []

    def test_a_shortlist_is_short_and_the_rerank_keeps_all_of_it_in_order_of_score(self, retriever: Retriever) -> None:
        ranked = retriever.rerank(retriever.shortlist("heap of JSON objects", {}))
        scores = [one.score for one in ranked]
        assert len(ranked) == len(TEXTS) <= RERANKED
        assert scores == sorted(scores, reverse=True)

    def test_the_quote_is_a_sentence_of_the_passage(self, retriever: Retriever) -> None:
        one = retriever.rerank(retriever.shortlist("JSON", {}))[0]
        assert one.quote in sentences_of(one.candidate.passage.text)

    def test_an_answer_does_not_depend_on_what_was_asked_before(self, retriever: Retriever) -> None:
        first = retriever.rerank(retriever.shortlist("push onto a heap", {}))
        best(retriever, "something else")
        assert retriever.rerank(retriever.shortlist("push onto a heap", {})) == first

    def test_vectors_are_kept_for_the_next_start_and_a_damaged_file_is_made_anew(self, tmp_path: Path) -> None:
        passages = load_corpus(3)
        counts: list[int] = []
        Retriever(passages, folder=tmp_path, progress=counts.append).close()
        (file,) = tmp_path.iterdir()
        kept = file.read_bytes()
        Retriever(passages, folder=tmp_path, progress=counts.append).close()
        assert file.read_bytes() == kept
        file.write_bytes(b"\x93NUMPY nonsense")
        Retriever(passages, folder=tmp_path, progress=counts.append).close()
        assert file.read_bytes() == kept
        assert sum(counts) == 9

    def test_sentences_have_single_spaces_and_short_ones_join_the_next(self) -> None:
        first, second = (
            "No. This is the first real sentence\n    of it.",
            "And here is another, long enough, really.",
        )
        text = f"{first} {second}\n\nEnd"
        assert sentences_of(text) == [
            "No. This is the first real sentence of it.",
            "And here is another, long enough, really.",
            "End",
        ]

    def test_vectors_have_length_one_and_a_batch_changes_none_of_them_by_much(self) -> None:
        embedder = Embedder()
        together = embedder.embed(["a heap", "a much longer text about heaps and queues " * 5])
        alone = embedder.embed(["a heap"])[0]
        assert float(together[0] @ together[0]) == pytest.approx(1)
        assert float(together[0] @ alone) == pytest.approx(1, abs=1e-3)


class TestService:
    @pytest.fixture
    def http(self, retriever: Retriever) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(build_app(retriever))
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    def test_an_answer_has_ranked_passages_with_sources_scores_and_quotes(self, http: httpx.AsyncClient) -> None:
        async def scenario() -> httpx.Response:
            return await http.post("/ask", json={"question": "median of numbers", "user": "u", "trace_id": "t"})

        found = asyncio.run(scenario()).json()
        assert found["passages"][0]["source"] == "statistics.median"
        assert found["answer"] == found["passages"][0]["quote"]
        assert len(found["passages"]) == SHOWN
        assert all(passage["score"] <= 1 for passage in found["passages"])

    def test_the_event_stream_ends_with_the_answer_that_ask_gives(self, http: httpx.AsyncClient) -> None:
        async def scenario() -> tuple[str, object]:
            body = {"question": "median of numbers"}
            return (await http.post("/ask/stream", json=body)).text, (await http.post("/ask", json=body)).json()

        text, answer = asyncio.run(scenario())
        events = [event.split("\n") for event in text.strip().split("\n\n")]
        assert [event[0] for event in events] == [
            "event: shortlist",
            *["event: passage"] * len(TEXTS),
            "event: answer",
        ]
        assert json.loads(events[-1][1].removeprefix("data: ")) == answer

    def test_query_is_a_method_of_ask_and_search_ranks_without_a_rerank(self, http: httpx.AsyncClient) -> None:
        async def scenario() -> tuple[httpx.Response, httpx.Response]:
            asked = await http.request("QUERY", "/ask", json={"question": "a heap"})
            return asked, await http.get("/search", params={"q": "a heap", "limit": 2})

        asked, searched = asyncio.run(scenario())
        assert asked.json()["passages"][0]["source"] == "heapq.heappush"
        assert searched.json()[0]["source"] == "heapq.heappush"
        assert len(searched.json()) == 2

    def test_work_counts_answers_and_nothing_else(self, http: httpx.AsyncClient) -> None:
        async def scenario() -> object:
            for _ in range(2):
                await http.post("/ask", json={"question": "a heap"})
            await http.get("/search", params={"q": "a heap"})
            return (await http.get("/work")).json()

        assert asyncio.run(scenario()) == {"answers": 2}

    @pytest.mark.parametrize("body", [{}, {"question": ""}, {"question": "a", "filters": {"color": "red"}}])
    def test_a_wrong_question_is_refused(self, http: httpx.AsyncClient, body: dict[str, object]) -> None:
        async def scenario() -> int:
            return (await http.post("/ask", json=body)).status_code

        assert asyncio.run(scenario()) == 422


def test_the_quickstart_answers_the_second_time_from_memory() -> None:
    async def scenario() -> list[httpx.Response]:
        transport = httpx.ASGITransport(quickstart.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://quickstart") as http:
            return [await http.get("/search", params={"q": "cache"}) for _ in range(2)]

    first, second = asyncio.run(scenario())
    assert first.headers["cache-status"] == "glasscache; fwd=uri-miss; stored"
    assert second.headers["cache-status"].startswith("glasscache; hit; ttl=")
    assert first.json() == second.json() == {"answer": "what there is to know about cache"}


class TestVisitors:
    def test_the_same_seed_asks_the_same_questions_and_another_seed_others(self) -> None:
        assert list(stream(1, 50)) == list(stream(1, 50))
        assert list(stream(1, 50)) != list(stream(2, 50))

    def test_some_questions_are_asked_far_more_often_than_others(self) -> None:
        asked = [ask.body["question"] for ask in stream(7, 2_000)]
        counts = sorted((asked.count(question) for question in set(asked)), reverse=True)
        assert counts[0] > 5 * counts[len(counts) // 4]

    def test_few_requests_carry_credentials_or_a_field_that_no_rule_knows(self) -> None:
        asks = list(stream(7, 1_000))
        assert 5 < sum("authorization" in ask.headers for ask in asks) < 50
        assert 2 < sum("temperature" in ask.body for ask in asks) < 30

    def test_no_wording_stands_for_two_intents(self) -> None:
        wordings = popularity(Random(1))
        assert len(set(wordings)) == len(wordings) == sum(map(len, QUESTIONS))

    @pytest.mark.parametrize(
        ("header", "outcome"),
        [
            ("glasscache; hit; ttl=291", "hit"),
            ("glasscache; hit; ttl=-4; detail=revalidating", "stale"),
            ("glasscache; fwd=uri-miss; collapsed", "collapsed"),
            ("glasscache; fwd=uri-miss; stored", "miss"),
            ("glasscache; fwd=stale; stored", "miss"),
            ("glasscache; fwd=bypass; detail=credentials", "bypass"),
            ("glasscache; fwd=method", "bypass"),
            ("Edge; hit; ttl=4, glasscache; fwd=uri-miss; stored", "miss"),
            ("Edge; hit", "uncached"),
            ("", "uncached"),
        ],
    )
    def test_a_cache_status_header_says_the_outcome(self, header: str, outcome: str) -> None:
        assert outcome_of(200, header) == outcome

    def test_a_failed_answer_is_an_error_whatever_the_header_says(self) -> None:
        assert outcome_of(500, "glasscache; fwd=uri-miss") == "error"

    def test_percentiles_are_measured_values(self) -> None:
        assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
        assert percentile([1.0], 0.99) == 1.0

    def test_the_table_has_a_row_per_outcome_that_happened(self) -> None:
        replies = [Reply(outcome="hit", first=0.001, total=0.001, body=b"")] * 3
        assert outcomes(replies).row_count == 1
        assert side_by_side(replies) is None
        replies.append(Reply(outcome="miss", first=0.2, total=0.2, body=b""))
        assert outcomes(replies).row_count == 2
        assert "200 times" in str(side_by_side(replies))
