"""Two processes' worth of replicas, one budget, a provider that counts for itself: nothing is spent twice or forgotten."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import make_settings, running
from tests.test_process import free_port

SIMULATOR: Final = Path(__file__).resolve().parents[3] / "shared" / "sim" / "openai_sim.py"
FACTS = "Eternalgy EMS is an energy management system for factories. The warranty of the EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"
ANSWER_TOKENS = 40


@asynccontextmanager
async def simulator() -> AsyncIterator[str]:
    """The base URL of a provider in a process of its own."""
    if not SIMULATOR.exists():
        pytest.skip("the provider simulator ../shared/sim/openai_sim.py is absent")
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            str(SIMULATOR),
            "--port",
            str(port),
            "--tokens",
            str(ANSWER_TOKENS),
            "--ttft",
            "0.05",
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(300):
                try:
                    await client.get(f"http://127.0.0.1:{port}/health")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


async def charged(provider_url: str) -> tuple[int, int]:
    """Chats, and the tokens of all of them, as the simulator counts: each of these prompts is as long as the others."""
    async with httpx.AsyncClient(trust_env=False) as client:
        counters = (await client.get(provider_url.replace("/v1", "/control"))).json()["counters"]
    chats: int = counters["chat"]
    characters, rest = divmod(counters["prompt_chars"], chats)
    assert rest == 0
    return chats, chats * (characters // 4 + 1 + ANSWER_TOKENS)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_budget_for_fifty_holds_on_two_replicas_and_the_ledger_is_the_simulators(
    make_database: MakeDatabase,
) -> None:
    dice = random.Random(11)
    async with simulator() as provider_url:
        settings = make_settings(
            DB_URL=await make_database(),
            openai_api_key="sk-test",
            openai_base_url=provider_url,
            chat_max_answer_tokens=ANSWER_TOKENS,
        )
        async with running(settings) as first, running(settings) as second:
            key, _ = await first.new_key()
            async with first.client(key) as one, second.client(key) as two:
                assert (await one.post("/ingest", json={"text": FACTS})).status_code == 200
                for client in (one, two):  # both have learnt that there is no budget
                    assert (await client.post("/chat", json={"message": QUESTION})).status_code == 200
                _, spent_before = await charged(provider_url)
                limit = spent_before // 2 * 52
                body = {"subject": "organization", "period": "day", "max_tokens": limit}
                budget_id = (await one.post("/budgets", json=body)).json()["id"]
                await asyncio.sleep(1)  # what a replica may take to hear of it

                statuses = await asyncio.gather(
                    *(insist((one, two)[number % 2], number, dice) for number in range(200))
                )

                chats, spent = await charged(provider_url)
                embedded = len(FACTS) // 4 + 1  # it counts to the budget too
                assert limit <= spent + embedded < limit + spent // chats
                assert sorted(set(statuses)) == [200, 402]
                assert statuses.count(200) == chats - 2
                rows = (await two.get("/usage", params={"group_by": "purpose"})).json()["rows"]
                answers, embedding = rows
                assert answers["prompt_tokens"] + answers["completion_tokens"] == spent
                assert (answers["calls"], answers["estimated_calls"]) == (chats, 0)
                assert embedding["prompt_tokens"] == embedded
                (taken,) = (await two.get(f"/budgets/{budget_id}")).json()["spending"]
                assert (taken["spent_tokens"], taken["reserved_tokens"]) == (spent + embedded, 0)


async def insist(client: httpx.AsyncClient, number: int, dice: random.Random) -> int:
    """Ask in one of the ways there are, again while all of it is reserved; returns the last status."""
    ways: list[tuple[str, dict[str, Any]]] = [
        ("/chat", {"message": QUESTION}),
        ("/chat", {"message": QUESTION, "stream": True}),
        ("/v1/chat/completions", {"model": "ibid", "messages": [{"role": "user", "content": QUESTION}]}),
    ]
    path, body = ways[number % 3]
    while True:
        response = await client.post(path, json=body)
        status = response.status_code
        if (
            body.get("stream") and "event: error" in response.text
        ):  # on a machine too busy to say so in five seconds
            status = 402 if '"budget_spent"' in response.text else 429
        if status != 429:
            return status
        await asyncio.sleep(1 + dice.random())
