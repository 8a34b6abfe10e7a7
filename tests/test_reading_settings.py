"""What reading a file may take, and where pages may come from, is for the operator to say."""

import shutil

import pytest
from pydantic import ValidationError

from app import opening
from app.core.addresses import UnsafeUrl
from app.db.engine import Database
from app.services import reading
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service, make_settings
from tests.fixtures.workers import stored, until, with_settings, working


async def test_networks_of_the_operators_choice_are_reached_and_no_others(database: Database) -> None:
    settings = make_settings(fetch_networks="10.20.0.0/16, fd00:20::/32", DB_URL="postgresql://unused/x")
    async with opening.open_runtime(settings, database) as runtime:
        assert runtime.web.check("http://10.20.1.1:8080/handbook") == "http://10.20.1.1:8080/handbook"
        assert runtime.web.check("http://[fd00:20::1]/") == "http://[fd00:20::1]/"
        for url in ("http://10.21.1.1/", "http://127.0.0.1/", "http://169.254.169.254/", "http://[::1]/"):
            with pytest.raises(UnsafeUrl):
                runtime.web.check(url)
    async with opening.open_runtime(make_settings(DB_URL="postgresql://unused/x"), database) as runtime:
        with pytest.raises(UnsafeUrl):
            runtime.web.check("http://10.20.1.1/")


@pytest.mark.parametrize("networks", ["10.20.0.0/99", "intranet", "10.20.0.0/16;10.30.0.0/16"])
def test_a_network_that_is_none_is_refused_at_the_start(networks: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(fetch_networks=networks)


async def test_a_file_with_more_text_than_the_operator_allows_has_failed(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    _, organization_id = await idle_service.new_key()
    runtime = with_settings(idle_service, parse_max_characters=1000)
    document_id = await stored(runtime, organization_id, b"Ten words of text that are said again. " * 100)

    async with working(runtime):
        document = await until(runtime, organization_id, document_id, "failed", "completed")

    assert document.error is not None
    assert document.error["code"] == "too_large"


def test_the_limits_of_reading_are_those_of_the_settings() -> None:
    limits = reading.limits_of(
        make_settings(
            parse_memory_bytes=536_870_912,
            parse_cpu_seconds=5,
            parse_seconds=7,
            parse_max_pages=10,
            parse_max_characters=1_000_000_000,
            ocr_languages="eng+msa",
            ocr_seconds=60,
        )
    )

    assert (limits.memory_bytes, limits.cpu_seconds, limits.seconds, limits.pages) == (536_870_912, 5, 7, 10)
    assert (limits.characters, limits.ocr_languages, limits.ocr_seconds) == (10**9, "eng+msa", 60)
    assert limits.output_bytes >= limits.characters
    assert limits.tesseract == shutil.which("tesseract")
    assert reading.limits_of(make_settings(ocr_seconds=0)).tesseract is None
    for languages in ("eng;rm", "--psm 1", "eng+"):
        with pytest.raises(ValidationError):
            make_settings(ocr_languages=languages)
