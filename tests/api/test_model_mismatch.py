"""The embedding model is changed under an index: nothing is mixed, and the way back is said."""

import asyncio

import httpx

from app.core.principal import Role
from tests.fixtures.accounts import Person, new_person
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service, make_settings, running


def client_of(service: Service, person: Person) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, headers=person.headers, timeout=60, trust_env=False)


async def test_vectors_of_two_models_are_never_compared(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    url = await make_database()
    remote = {
        "openai_api_key": "sk-test",
        "openai_base_url": provider.url,
        "embedding_model": "text-embedding-3-large-of-1300",
    }
    async with running(make_settings(DB_URL=url, **remote)) as service:
        key, _ = await service.new_key()
        async with service.client(key) as client:
            assert (await client.post("/ingest", json={"text": "The sky is blue."})).status_code == 200

    async with running(make_settings(DB_URL=url)) as service, service.client(key) as client:
        for path, body in (
            ("/search", {"query": "sky"}),
            ("/chat", {"message": "sky?"}),
            ("/ingest", {"text": "More"}),
        ):
            response = await client.post(path, json=body)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "embedding_model_mismatch"
            assert "Set EMBEDDING_MODEL" in response.json()["error"]["message"]
        ready = (await client.get("/health/ready")).json()
        assert [part["name"] for part in ready["parts"] if part["status"] == "down"] == ["index"]
        document_id = (await client.get("/documents")).json()[0]["id"]
        assert (await client.delete(f"/documents/{document_id}")).status_code == 204

    async with running(make_settings(DB_URL=url)) as service, service.client(key) as client:
        assert (await client.post("/ingest", json={"text": "More"})).status_code == 200


async def test_an_index_is_searched_with_its_own_model_whatever_is_configured_later(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    url = await make_database()
    remote = {"openai_api_key": "sk-test", "openai_base_url": provider.url, "chat_model": "extractive"}
    async with running(make_settings(DB_URL=url, embedding_model="scripted-embedding", **remote)) as service:
        key, _ = await service.new_key()
        async with service.client(key) as client:
            await client.post("/ingest", json={"text": "The sky is blue."})

    other = make_settings(DB_URL=url, embedding_model="scripted-embedding:64", **remote)
    async with running(other) as service, service.client(key) as client:
        found = await client.post("/search", json={"query": "sky"})
        assert [hit["text"] for hit in found.json()["results"]] == ["The sky is blue."]
        assert (await client.post("/ingest", json={"text": "The sea is green."})).status_code == 200
        response = await client.get("/health/ready")
        ready = response.json()
        assert (response.status_code, ready["status"]) == (200, "degraded")
        told = {part["name"]: part["message"] for part in ready["parts"] if part["status"] == "degraded"}
        assert "POST /admin/index/rebuild" in told["index"]


async def test_an_index_whose_model_is_gone_is_built_anew_with_another_one(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    url = await make_database()
    remote = {"openai_api_key": "sk-test", "openai_base_url": provider.url, "chat_model": "extractive"}
    async with running(make_settings(DB_URL=url, embedding_model="scripted-embedding", **remote)) as service:
        admin = await new_person(service, Role.SUPERADMIN)
        async with client_of(service, admin) as client:
            await client.post("/ingest", json={"text": "The sky is blue."})

    settings = make_settings(DB_URL=url, index_keep_seconds=2)
    async with running(settings) as service, client_of(service, admin) as client:
        assert (await client.post("/search", json={"query": "sky"})).status_code == 503
        started = await client.post("/admin/index/rebuild", json={"embedding_model": "local"})
        assert started.status_code == 202, started.text
        async with asyncio.timeout(90):
            while (await client.post("/search", json={"query": "sky"})).status_code != 200:
                await asyncio.sleep(0.2)
        found = (await client.post("/search", json={"query": "sky"})).json()["results"]
    assert [hit["text"] for hit in found] == ["The sky is blue."]
