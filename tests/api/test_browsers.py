"""What every answer tells a browser, which origins may ask, and a documentation page that loads nothing from elsewhere."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from tests.fixtures.service import Service, make_settings
from tests.fixtures.variants import client_of, variant

ORIGIN = "https://chat.example.com"
FIELDS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/documents", 200),
        ("GET", "/documents/doc_unknown", 404),
        ("GET", "/nothing/here", 404),
        ("PUT", "/chat", 405),
        ("POST", "/chat", 422),
        ("GET", "/openapi.json", 200),
        ("GET", "/documents?limit=0", 422),
    ],
)
async def test_every_answer_has_the_fields(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)

    assert response.status_code == status
    assert FIELDS.items() <= dict(response.headers).items()
    assert response.headers["content-security-policy"].startswith(
        "default-src 'none'; frame-ancestors 'none'"
    )
    assert "camera=()" in response.headers["permissions-policy"]
    assert "strict-transport-security" not in response.headers
    assert "set-cookie" not in response.headers
    assert "server" not in response.headers


async def test_a_failure_of_ours_has_them_too(service: Service) -> None:
    app = variant(service, cors_origins=ORIGIN)

    async def broken() -> None:
        raise RuntimeError("secret detail")

    app.add_api_route("/broken", broken)
    async with client_of(app) as client:
        response = await client.get("/broken", headers={"Origin": ORIGIN})

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert "secret detail" not in response.text
    assert FIELDS.items() <= dict(response.headers).items()
    assert response.headers["access-control-allow-origin"] == ORIGIN


async def hsts_of(app: FastAPI, *, address: str = "192.0.2.1", **headers: str) -> str | None:
    async with client_of(app, address=address) as client:
        response = await client.get("/health", headers=headers)
        value: str | None = response.headers.get("strict-transport-security")
        return value


async def test_hsts_is_sent_only_where_https_is_known(service: Service) -> None:
    proto = {"X-Forwarded-Proto": "https"}
    proxied = variant(service, trusted_proxies="192.0.2.0/24")

    assert await hsts_of(variant(service, public_url="https://ibid.example.com")) == "max-age=31536000"
    assert await hsts_of(variant(service, public_url="http://ibid.example.com")) is None
    assert await hsts_of(proxied, **proto) == "max-age=31536000"
    assert await hsts_of(proxied, **{"X-Forwarded-Proto": "http"}) is None
    assert await hsts_of(proxied, address="203.0.113.1", **proto) is None
    assert await hsts_of(variant(service), **proto) is None


async def preflight(app: FastAPI, origin: str) -> httpx.Response:
    async with client_of(app) as client:
        return await client.options(
            "/chat",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )


async def test_only_configured_origins_may_ask(service: Service) -> None:
    app = variant(service, cors_origins=f"{ORIGIN}, http://localhost:5173")
    key, _ = await service.new_key()
    allowed = await preflight(app, ORIGIN)
    local = await preflight(app, "http://localhost:5173")
    async with client_of(app, token=key) as client:
        answered = await client.get("/documents", headers={"Origin": ORIGIN})
        foreign = await client.get("/documents", headers={"Origin": "https://evil.example"})

    assert (allowed.status_code, local.status_code) == (200, 200)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    assert answered.headers["access-control-allow-origin"] == ORIGIN
    assert answered.headers["vary"] == "Origin"
    assert "RateLimit" in answered.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answered.headers
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.com.evil.example",
        "https://evil.example",
        "http://chat.example.com",
        "https://chat.example.com:8443",
        "null",
        "https://CHAT.example.com@evil.example",
    ],
)
async def test_an_origin_that_only_looks_alike_is_refused(service: Service, origin: str) -> None:
    response = await preflight(variant(service, cors_origins=ORIGIN), origin)

    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


async def test_by_default_no_origin_may_ask(service: Service) -> None:
    response = await preflight(variant(service), ORIGIN)

    assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    "origins", ["*", "chat.example.com", "https://*.example.com", "https://a.example/x", "null"]
)
def test_an_origin_that_is_not_exact_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="no exact origin"):
        make_settings(cors_origins=origins)


async def test_a_strange_host_changes_no_address(service: Service) -> None:
    key, _ = await service.new_key()
    async with service.client(key) as client:
        for number in range(2):
            await client.post("/ingest", json={"text": f"text number {number}"})
        for host in ("evil.example", "evil.example/admin?", "a b", "[::1", "x:99999", "evil.example#"):
            listed = await client.get("/documents?limit=1", headers={"Host": host})
            redirected = await client.get("/documents/", headers={"Host": host})
            assert listed.status_code in (200, 400)
            if listed.status_code == 200:
                assert listed.headers["link"].startswith("</documents?limit=1&cursor=")
            assert "evil" not in redirected.headers.get("location", "")


async def test_the_documentation_loads_nothing_from_elsewhere(service: Service) -> None:
    async with service.client(None) as client:
        page = await client.get("/docs")
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = [await client.get(f"/{asset}") for asset in assets]

    assert page.status_code == 200
    assert "default-src 'none'; script-src 'self';" in page.headers["content-security-policy"]
    assert len(assets) == 4
    assert not any("//" in asset for asset in assets)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["content-type"] for answer in answers} == {
        "image/png",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
    }
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    bundle = answers[2]
    assert bundle.headers["content-encoding"] == "gzip"
    assert len(bundle.content) > 1_000_000
    assert b"SwaggerUIBundle" in bundle.content


@pytest.mark.parametrize("asset", ["main.py", "../main.py", "..%2f..%2fmain.py", "__init__.py", "x"])
async def test_nothing_else_of_the_wheel_is_served(service: Service, asset: str) -> None:
    async with service.client(None) as client:
        assert (await client.get(f"/docs/{asset}")).status_code == 404


def test_no_page_of_ours_names_a_foreign_host() -> None:
    source = (Path(__file__).resolve().parents[2] / "app" / "api" / "documentation.py").read_text()

    assert "http" not in source.split("_PAGE: Final", 1)[1].split("def add_documentation", 1)[0]
