"""The two embedding providers behind LlamaIndex: the local model, and a scripted endpoint for OpenAI's."""

import asyncio
import base64
import json
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.rag import embedding, local_model, openai_embeddings
from app.rag.circuits import Circuits
from app.rag.embedding import EmbeddingConfig, EmbeddingModel, LocalEmbeddings
from app.rag.errors import (
    EmbeddingDimensionUnknown,
    EmbeddingTimeout,
    EmbeddingUnavailable,
    InvalidEmbeddingSettings,
    UnexpectedEmbedding,
)
from app.rag.local_model import SentenceEncoder, TokenIds
from app.rag.provider_http import ProviderConnectionError, Reply, Stream

KEY = "sk-secret-0123456789"
DIMENSION = 8

Answer = Reply | Exception
Script = Callable[[list[str]], Awaitable[Answer | None]]


@dataclass(frozen=True)
class Request:
    url: str
    content: bytes
    headers: dict[str, str]


def vector_of(text: str) -> list[float]:
    """A vector that tells its text: its length and its first letter."""
    return [1.0, float(len(text)), float(ord(text[0]))] + [0.5] * (DIMENSION - 3)


class FakeProvider:
    """An embeddings endpoint that answers what `script` says, or properly when it says nothing."""

    def __init__(self, script: Script | None = None, *, as_numbers: bool = False) -> None:
        self.circuits = Circuits()
        self.requests: list[Request] = []
        self.inputs: list[list[str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._script = script
        self._as_numbers = as_numbers

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.requests.append(Request(url, body, dict(headers)))
        texts = json.loads(body)["input"]
        self.inputs.append(texts)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            reply = await self._script(texts) if self._script else None
        finally:
            self.in_flight -= 1
        if isinstance(reply, Exception):
            raise reply
        return reply or Reply(200, {}, json.dumps(self._vectors(texts)).encode())

    async def stream(self, url: str, body: bytes, headers: Mapping[str, str]) -> Stream:
        raise NotImplementedError

    def _vectors(self, texts: list[str]) -> dict[str, Any]:
        items = [
            {"index": index, "embedding": vector_of(text) if self._as_numbers else base64_of(vector_of(text))}
            for index, text in enumerate(texts)
        ]
        return {"object": "list", "data": items[::-1]}


def base64_of(vector: list[float]) -> str:
    return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()


def script_of(*replies: Answer | None) -> Script:
    """Each reply once, in turn; the last one for ever."""
    left = list(replies)

    async def script(_: list[str]) -> Answer | None:
        return left.pop(0) if len(left) > 1 else left[0]

    return script


def remote(provider: FakeProvider, **settings: Any) -> EmbeddingModel:
    settings = {"model": "bge-m3", "api_key": KEY, "base_url": "http://provider.test/v1/", **settings}
    return embedding.build(EmbeddingConfig(provider="openai", **settings), provider)


def local() -> EmbeddingModel:
    return embedding.build(EmbeddingConfig(provider="local", model="all-MiniLM-L6-v2"), None)


async def test_openai_vectors_come_in_the_order_of_the_texts() -> None:
    model = remote(FakeProvider())
    texts = [chr(97 + number % 26) * (number + 1) for number in range(300)]

    lists = await model.embedder.aget_text_embedding_batch(texts)
    array = await model.embed_texts(texts)

    assert lists == [vector_of(text) for text in texts]
    assert array.dtype == np.float32
    assert array.tolist() == lists


async def test_openai_answers_in_plain_numbers_are_read_too() -> None:
    model = remote(FakeProvider(as_numbers=True))

    assert await model.embedder.aget_text_embedding_batch(["b", "aa"]) == [vector_of("b"), vector_of("aa")]


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 12, 13, 384])
def test_vectors_of_any_length_are_read_from_base64(dimension: int) -> None:
    vectors = np.random.default_rng(dimension).standard_normal((5, dimension)).astype(np.float32)
    texts = [base64_of(vector.tolist()) for vector in vectors]

    for count in (1, 5):
        data = [{"index": place, "embedding": text} for place, text in enumerate(texts[:count])]
        read, tokens = openai_embeddings.decode(json.dumps({"data": data}).encode(), count=count)
        assert read.tolist() == vectors[:count].tolist()
        assert tokens is None


@pytest.mark.parametrize("spoilt", ["", "*" * 16, "AAAA" * 3 + "AA==", "é" * 16, "AAAA" * 5])
def test_one_vector_that_is_none_spoils_an_answer(spoilt: str) -> None:
    data = [{"embedding": text} for text in ("AACAPwAAgD8AAIA/", spoilt)]
    with pytest.raises(UnexpectedEmbedding):
        openai_embeddings.decode(json.dumps({"data": data}).encode(), count=2)


async def test_openai_requests_carry_the_key_and_the_model_over_the_shared_client() -> None:
    provider = FakeProvider()
    model = remote(provider)

    await model.embedder.aget_query_embedding("one")
    await model.embedder.aget_text_embedding_batch(["two"])
    await model.aclose()

    assert len(provider.requests) == 2
    request = provider.requests[0]
    assert request.url == "http://provider.test/v1/embeddings"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {"model": "bge-m3", "input": ["one"], "encoding_format": "base64"}


async def test_a_remote_model_without_a_client_is_refused() -> None:
    with pytest.raises(InvalidEmbeddingSettings):
        embedding.build(EmbeddingConfig(provider="openai", model="text-embedding-3-small"), None)


async def test_a_compatible_server_without_a_key_gets_no_authorization() -> None:
    provider = FakeProvider()

    await remote(provider, api_key=None).embedder.aget_query_embedding("one")

    assert "Authorization" not in provider.requests[0].headers


async def test_documents_go_in_batches_of_128_and_four_at_a_time() -> None:
    provider = FakeProvider()

    await remote(provider).embed_texts(["text"] * 128 * 9 + ["last"])

    assert sorted(map(len, provider.inputs)) == [1] + [128] * 9
    assert provider.most_in_flight == 4


async def test_a_batch_of_documents_is_bounded_in_bytes() -> None:
    texts = ["é" * 60_000] * 5 + ["x" * 1_000_000] + ["y"] * 3

    batches = list(openai_embeddings.batches(texts))

    assert [len(batch) for batch in batches] == [2, 2, 1, 1, 3]
    assert [text for batch in batches for text in batch] == texts


async def test_no_texts_need_no_request() -> None:
    provider = FakeProvider()

    assert await remote(provider).embedder.aget_text_embedding_batch([]) == []
    assert (await local().embed_texts([])).shape == (0, local_model.DIMENSION)
    assert provider.requests == []


async def test_an_empty_text_is_never_sent() -> None:
    provider = FakeProvider()
    model = remote(provider)

    await model.embedder.aget_query_embedding("")
    vectors = await model.embed_texts(["", "  \n", "text"])

    assert provider.inputs == [["."], [".", ".", "text"]]
    assert vectors.shape == (3, DIMENSION)


async def test_a_very_long_question_loses_its_end() -> None:
    provider = FakeProvider()

    await remote(provider).embedder.aget_query_embedding("日本" * 50_000)

    assert provider.inputs[0][0] == ("日本" * 50_000)[: 8191 // 3]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_request_is_repeated_after_a_passing_failure(status: int) -> None:
    failure = Reply(status, {"retry-after": "0"}, b"")
    provider = FakeProvider(script_of(failure, failure, None))

    assert await remote(provider).embedder.aget_query_embedding("one") == vector_of("one")
    assert len(provider.requests) == 3


async def test_a_request_is_repeated_after_a_lost_connection() -> None:
    provider = FakeProvider(script_of(ProviderConnectionError("refused"), None))

    assert await remote(provider).embedder.aget_query_embedding("one") == vector_of("one")


async def test_a_failure_that_stays_is_named_after_two_repetitions() -> None:
    provider = FakeProvider(script_of(Reply(429, {"retry-after": "0.01"}, b"")))

    with pytest.raises(EmbeddingUnavailable) as caught:
        await remote(provider).embed_texts(["one"])

    assert (caught.value.status, caught.value.retry_after_seconds) == (429, 0.01)
    assert len(provider.requests) == 3


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 422])
async def test_a_refusal_is_not_repeated(status: int) -> None:
    provider = FakeProvider(script_of(Reply(status, {}, b"")))

    with pytest.raises(EmbeddingUnavailable) as caught:
        await remote(provider).embedder.aget_query_embedding("one")

    assert caught.value.status == status
    assert len(provider.requests) == 1


async def test_a_provider_that_hangs_is_given_up_once() -> None:
    async def hang(_: list[str]) -> None:
        await asyncio.Event().wait()

    provider = FakeProvider(hang)

    with pytest.raises(EmbeddingTimeout):
        await remote(provider, timeout_seconds=0.05).embedder.aget_query_embedding("one")

    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"data": []}',
        b'{"error": {"message": "no"}}',
        b'{"data": [{"embedding": "???"}]}',
        b'{"data": [{"embedding": [1, 2], "index": 7}]}',
        b'{"data": [{"embedding": [NaN]}]}',
        b'{"data": [{"embedding": [0, 0]}]}',
        b'{"data": [{"embedding": []}]}',
        b'{"data": [{"embedding": [1]}, {"embedding": [2]}]}',
    ],
)
async def test_an_answer_without_the_vectors_is_refused(answer: bytes) -> None:
    provider = FakeProvider(script_of(Reply(200, {}, answer)))

    with pytest.raises(UnexpectedEmbedding):
        await remote(provider).embedder.aget_query_embedding("one")


async def test_vectors_of_another_length_than_the_index_are_refused() -> None:
    with pytest.raises(UnexpectedEmbedding, match="8 dimensions instead of 1536"):
        await remote(FakeProvider(), model="text-embedding-3-small").embedder.aget_query_embedding("one")


async def test_one_failing_batch_ends_the_others() -> None:
    async def refuse_one(texts: list[str]) -> Answer | None:
        if texts[0] == "bad":
            return Reply(400, {}, b"")
        await asyncio.Event().wait()
        return None

    provider = FakeProvider(refuse_one)

    with pytest.raises(EmbeddingUnavailable):
        await remote(provider).embed_texts(["good"] * 128 * 2 + ["bad"] * 128)
    await asyncio.sleep(0.01)

    assert provider.in_flight == 0


async def test_a_question_does_not_wait_behind_documents_at_the_provider() -> None:
    release = asyncio.Event()

    async def hold_documents(texts: list[str]) -> None:
        if texts != ["question"]:
            await release.wait()

    provider = FakeProvider(hold_documents)
    model = remote(provider)
    documents = asyncio.create_task(model.embed_texts(["document"] * 128 * 8))
    while provider.in_flight < 4:
        await asyncio.sleep(0)

    await model.embedder.aget_query_embedding("question")

    assert not documents.done()
    release.set()
    assert len(await documents) == 128 * 8


async def test_the_key_appears_in_no_error_and_no_representation(caplog: pytest.LogCaptureFixture) -> None:
    body = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    model = remote(FakeProvider(script_of(Reply(401, {}, json.dumps(body).encode()))))

    with pytest.raises(EmbeddingUnavailable) as caught:
        await model.embedder.aget_query_embedding("one")

    shown = [
        *traceback.format_exception(caught.value),
        repr(EmbeddingConfig(provider="openai", model="m", api_key=KEY)),
        repr(model.embedder),
        str(model.embedder.to_dict()),
        str(model.embedder.to_payload()),
        caplog.text,
        *(str(record.__dict__) for record in caplog.records),
    ]
    assert KEY not in "".join(shown)
    assert "invalid_api_key" in str(caplog.records[-1].__dict__)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": f"{KEY}\nX: y"},
        {"api_key": f"{KEY}é"},
        {"base_url": "provider.test/v1"},
        {"base_url": "file:///etc/passwd"},
        {"base_url": "http://"},
        {"model": "text-embedding-3-small", "dimension": 4096},
    ],
)
def test_settings_that_can_not_work_are_refused_at_the_start(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidEmbeddingSettings) as caught:
        remote(FakeProvider(), **settings)

    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("settings", [{"model": "bge-m3"}, {"model": "local", "dimension": 512}])
def test_there_is_one_local_model(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidEmbeddingSettings):
        embedding.build(EmbeddingConfig(provider="local", **settings), None)


@pytest.mark.parametrize(
    ("model_name", "dimension"), [("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072)]
)
async def test_the_dimension_of_openais_models_is_known_without_a_request(
    model_name: str, dimension: int
) -> None:
    provider = FakeProvider()
    model = remote(provider, model=model_name)

    await model.warm_up()

    assert provider.requests == []
    assert model.dimension == dimension
    assert model.fingerprint == f"{model_name}@api/{dimension}/f32/8191/none"


async def test_the_dimension_of_another_model_is_learnt_when_warming_up() -> None:
    model = remote(FakeProvider())
    with pytest.raises(EmbeddingDimensionUnknown):
        _ = model.fingerprint

    await model.warm_up()

    assert model.dimension == DIMENSION
    assert model.fingerprint == "bge-m3@api/8/f32/512/none"


async def test_another_dimension_than_the_models_own_is_asked_of_the_provider() -> None:
    provider = FakeProvider()
    model = remote(provider, model="text-embedding-3-small", dimension=DIMENSION)

    await model.embedder.aget_query_embedding("one")

    assert json.loads(provider.requests[0].content)["dimensions"] == DIMENSION
    assert model.fingerprint == "text-embedding-3-small@api/8/f32/8191/none"


def test_a_provider_can_not_make_us_wait_longer_than_ten_seconds() -> None:
    assert openai_embeddings.pause_seconds(0, 3600.0) == 10
    assert openai_embeddings.pause_seconds(0, 2.5) == 2.5
    assert 0 < openai_embeddings.pause_seconds(1, None) < 2


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("nan", None), ("inf", None), ("soon", None)]
)
def test_retry_after_is_read(value: str, seconds: float | None) -> None:
    assert openai_embeddings.retry_after_seconds({"retry-after": value}) == seconds


def test_retry_after_as_a_date_is_read() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    seconds = openai_embeddings.retry_after_seconds({"retry-after": value})

    assert seconds is not None
    assert 50 < seconds <= 60


async def test_local_vectors_are_those_of_the_encoder() -> None:
    model = local()
    await model.warm_up()
    texts = ["", "short", "a longer text than the others " * 9, "short"]

    lists = await model.embedder.aget_text_embedding_batch(texts)
    query = await model.embedder.aget_query_embedding("short")
    text = await model.embedder.aget_text_embedding("short")

    np.testing.assert_allclose(lists, local_model.load().encode(texts), atol=1e-5)
    np.testing.assert_allclose(query, lists[1], atol=1e-5)
    np.testing.assert_allclose(text, lists[1], atol=1e-5)
    assert model.dimension == 384
    assert model.max_tokens == 256
    assert model.fingerprint == "sentence-transformers/all-MiniLM-L6-v2@1110a243/384/f32/256/none"
    await model.aclose()


async def test_a_chunk_that_the_local_model_can_not_read_at_once_is_the_mean_of_its_parts() -> None:
    leave = "Unused annual leave lapses on 31 March of the following year. " * 15
    engines = "The diesel engine drives a generator that charges the battery. " * 15
    fits = "How long may leave be kept?"
    encoder = local_model.load()
    embeddings = LocalEmbeddings(threads=1)
    try:
        long, short = await embeddings.embed_texts([leave + engines, fits])
    finally:
        await embeddings.aclose()

    ((first, second), *_) = encoder.tokenize_whole([leave + engines])
    assert first[1:-1] + second[1:-1] == local_model.load_tokenizer().encode(leave + engines).ids[1:-1]
    assert max(len(first), len(second)) <= local_model.MAX_TOKENS
    expected = np.average(encoder.run([first, second]), axis=0, weights=[len(first), len(second)])
    np.testing.assert_allclose(long, expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(short, encoder.encode([fits])[0], atol=1e-5)
    beginning = encoder.encode([leave + engines])[0]
    end = encoder.encode([engines[:600]])[0]
    assert long @ end > beginning @ end + 0.1


async def test_a_question_does_not_wait_behind_documents_in_the_local_model() -> None:
    model = local()
    await model.warm_up()
    documents = asyncio.create_task(model.embed_texts(["word " * 250] * 40))
    await asyncio.sleep(0.01)

    for _ in range(3):
        await model.embedder.aget_query_embedding("question")

    assert not documents.done()
    documents.cancel()
    with pytest.raises(asyncio.CancelledError):
        await documents
    await model.aclose()


class CountingEncoder(SentenceEncoder):
    """The real encoder, which tells how many batches it was given."""

    def __init__(self) -> None:
        self.batches_run = 0
        self.running = threading.Event()
        real = local_model.load()
        self.session, self._tokenizer = real.session, real._tokenizer

    def run(self, batch: Sequence[TokenIds]) -> NDArray[np.float32]:
        self.batches_run += 1
        self.running.set()
        return super().run(batch)


class WatchedEncoder(SentenceEncoder):
    """The real encoder, which tells how low the priority of its threads is."""

    def __init__(self) -> None:
        self.niceness: dict[str, int] = {}
        real = local_model.load()
        self.session, self._tokenizer = real.session, real._tokenizer

    def run(self, batch: Sequence[TokenIds]) -> NDArray[np.float32]:
        thread = threading.current_thread().name.partition("_")[0]
        self.niceness[thread] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return super().run(batch)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
async def test_documents_are_embedded_after_everything_else_that_wants_the_processor() -> None:
    encoder = WatchedEncoder()
    embeddings = LocalEmbeddings(lambda: encoder)

    await embeddings.warm_up()

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert encoder.niceness == {"embed-documents": min(19, usual + 10), "embed-query": usual}
    await embeddings.aclose()


async def test_a_cancelled_document_stops_after_its_running_batch() -> None:
    encoder = CountingEncoder()
    embeddings = LocalEmbeddings(lambda: encoder, threads=1)
    documents = asyncio.create_task(embeddings.embed_texts(["word " * 250] * 40))
    await asyncio.to_thread(encoder.running.wait)

    documents.cancel()
    with pytest.raises(asyncio.CancelledError):
        await documents
    run_when_cancelled = encoder.batches_run
    await embeddings.embed_texts(["next"])

    assert run_when_cancelled < 20
    assert encoder.batches_run == run_when_cancelled + 1
    await embeddings.aclose()


async def test_documents_take_turns_in_the_local_model() -> None:
    model = local()
    await model.warm_up()
    book = asyncio.create_task(model.embed_texts(["word " * 250] * 30))
    await asyncio.sleep(0.01)

    await model.embed_texts(["a note"])

    assert not book.done()
    book.cancel()
    await asyncio.gather(book, return_exceptions=True)
    await model.aclose()
