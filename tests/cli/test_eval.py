"""`ibid eval`: the real pipeline on a question set of a few lines, and what a wrong folder is answered."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.errors import InvalidQuestionSet
from app.core.principal import SYSTEM
from app.services import evaluation, evaluation_report, question_sets
from app.services.evaluation_results import Leg, Result
from tests.cli.conftest import environment, run_ibid
from tests.fixtures.service import Service

PASSAGES = {
    "heron": "The grey heron nests in colonies near lakes and hunts fish in shallow water.",
    "stork": "White storks return from Africa in spring and build large nests on chimneys.",
    "inverter": "The warranty of the inverter covers ten years from the date of installation.",
    "meter": "A smart meter reports the consumption of each machine every fifteen minutes.",
    "twin": "The grey heron nests in colonies near lakes and hunts fish in shallow water.",
}
QUESTIONS = {
    "q1": ("Where do herons nest?", "heron"),
    "q2": ("When do storks come back from Africa?", "stork"),
    "q3": ("How long is the warranty of an inverter?", "inverter"),
    "q4": ("What reports the consumption of machines?", "meter"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    folder.mkdir()
    rows = [{"_id": key, "title": key.capitalize(), "text": value} for key, value in PASSAGES.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [{"_id": key, "text": question} for key, (question, _) in QUESTIONS.items()]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    lines = [f"{key}\t{passage}\t1" for key, (_, passage) in QUESTIONS.items()]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    (folder / "unanswerable.jsonl").write_text(
        json.dumps({"_id": "u1", "text": "Which yoga pose helps against a stiff neck?"})
    )
    return folder


async def test_a_question_set_is_measured_and_leaves_nothing_behind(service: Service, folder: Path) -> None:
    async def organizations() -> int:
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            return int(await session.scalar(text("SELECT count(*) FROM organizations")) or 0)

    before, told = await organizations(), []
    result = await evaluation.evaluate(
        service.runtime, question_sets.load(folder), progress=lambda *what: told.append(what)
    )

    assert await organizations() == before
    assert ("passages", 5, 5) in told
    fused = result.legs[Leg.FUSED]
    assert fused.recall_10 == [1.0] * 4
    assert fused.mrr[1:] == [1.0] * 3  # the first one's passage is in the corpus twice
    assert result.refused == 1
    assert result.false_refusals == 0
    needed, refused = result.calibrated()
    assert 0 < needed < 1
    assert refused == 1
    assert json.loads(json.dumps(result.as_json()))["legs"]["fused"]["ndcg@10"] > 0.8

    assert Result.from_json(json.loads(json.dumps(result.as_json()))).as_json() == result.as_json()

    page = evaluation_report.html([("this", result), ("<b>that</b>", result)])
    assert page.count("<svg") == 4
    assert "&lt;b&gt;that&lt;/b&gt;" in page
    assert "<b>that</b>" not in page
    assert "src=" not in page and "href=" not in page
    assert evaluation_report.compared(result, result)["fused"] == {"difference": 0, "p": 1}


async def test_the_command_measures_compares_and_calibrates(
    database_url: str, folder: Path, tmp_path: Path
) -> None:
    env = environment(DB_URL=database_url)
    ran = await run_ibid(
        *("eval", str(folder), "--calibrate", "--questions", "2", "--answers", "--html", "report.html"),
        *("--against", "TEXT_SEARCH_LANGUAGE=simple"),
        env=env,
        cwd=tmp_path,
    )

    assert ran.code == 0, ran.err
    assert "birds: 2 questions" in ran.out
    assert "MIN_RELEVANCE=" in ran.out
    assert "fused: nDCG@10" in ran.out
    assert "citation precision" in ran.out
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", "{", "corpus.jsonl:1 is not JSON"),
        ("corpus.jsonl", "[1]", "corpus.jsonl:1 is not an object"),
        ("corpus.jsonl", '{"_id": "a"}', "no text in `text`"),
        ("corpus.jsonl", "", "no passages"),
        ("queries.jsonl", '{"_id": 1, "text": "a"}', "no text in `_id`"),
        ("qrels.tsv", "q1\theron", "qrels.tsv:1 is not question, passage and grade"),
        ("qrels.tsv", "q1\tnowhere\t1", "no question whose passages"),
        ("qrels.tsv", "q1\theron\tNaN", "qrels.tsv:1"),
    ],
)
def test_a_wrong_question_set_is_named(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)

    with pytest.raises(InvalidQuestionSet) as raised:
        question_sets.load(folder)
    assert message in str(raised.value)


def test_a_missing_file_or_folder_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "queries.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidQuestionSet, match=r"queries\.jsonl can't be read"):
        question_sets.load(folder)
    with pytest.raises(InvalidQuestionSet, match="is no folder"):
        question_sets.load(tmp_path / "nothing")


async def test_a_setting_that_is_none_is_refused_before_anything_is_done(
    database_url: str, folder: Path, tmp_path: Path
) -> None:
    env = environment(DB_URL=database_url)
    for wrong in ("NO_SETTING=1", "CHUNK_SIZE_TOKENS", "CHUNK_SIZE_TOKENS=many"):
        ran = await run_ibid("eval", str(folder), "--against", wrong, env=env, cwd=tmp_path)
        assert (ran.code, ran.out) == (1, ""), ran.err
