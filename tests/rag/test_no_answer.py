"""A model's refusal is recognised by its marker and by its words, and an answer is not taken for one."""

import pytest

from app.rag import prompts, refusals
from app.rag.no_answer import NoAnswerFilter, says_no_answer

REFUSALS = [
    "I'm sorry, but the provided sources do not contain information about this.",
    "The documents do not say who founded the company.",
    "I don't have enough information to answer that question.",
    "This is not mentioned in the documents.",
    "Maaf, dokumen tidak menyebut tempoh jaminan.",
    "Maaf, saya tidak dapat menjawab pertanyaan ini berdasarkan dokumen.",
    "Tiada maklumat tentang perkara itu dalam sumber.",
    "Lo siento, los documentos no contienen información sobre eso.",
    "Les documents ne mentionnent pas cette information.",
    "Die Quellen enthalten dazu keine Informationen.",
    "De bronnen bevatten geen antwoord op deze vraag.",
    "I documenti non contengono informazioni su questo.",
    "Os documentos não mencionam isso, não encontrei resposta.",
    "Dokumenty nie zawierają informacji na ten temat.",
    "В источниках нет информации об этом.",
    "У джерелах немає відповіді на це питання.",
    "文档中没有提到这个问题。",
    "文件中沒有相關資訊。",
    "資料にはその情報が含まれていません。",
    "문서에는 해당 정보가 없습니다.",
    "لا تحتوي المستندات على إجابة.",
    "Tài liệu không đề cập đến vấn đề này.",
    "เอกสารไม่ได้ระบุเรื่องนี้",
    "Belgelerde bu bilgi yer almıyor.",
    "दस्तावेज़ों में इसकी जानकारी नहीं है।",
    "Τα έγγραφα δεν αναφέρουν κάτι τέτοιο.",
    "המסמכים לא כוללים מידע על כך.",
]
ANSWERS = [
    "The warranty is five years [1].",
    "The warranty does not cover water damage [2].",
    "Breakfast is not included.",
    "No.",
    "Jaminan ialah lima tahun [1].",
    "保修期为五年[1]。",
    "",
    "The documents do not mention the price, but the warranty is five years [1].",
    "word " * 120 + "I could not find an answer.",
]


@pytest.mark.parametrize("language", list(refusals.SENTENCES))
def test_our_own_refusals_are_recognised_in_every_language(language: str) -> None:
    assert says_no_answer(refusals.SENTENCES[language])


@pytest.mark.parametrize("said", REFUSALS)
def test_refusals_of_models_are_recognised(said: str) -> None:
    assert says_no_answer(said)


@pytest.mark.parametrize("said", ANSWERS)
def test_answers_are_not_taken_for_refusals(said: str) -> None:
    assert not says_no_answer(said)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("answer", "shown", "declared"),
    [
        (f"{prompts.NO_ANSWER} The documents do not say.", "The documents do not say.", True),
        ("**[[No Answer]]** Tidak ada.", "Tidak ada.", True),
        ("\n[no_answer]: nothing", "nothing", True),
        ("【no answer】没有。", "没有。", True),
        (prompts.NO_ANSWER, "", True),
        ("[1] says so.", "[1] says so.", False),
        ("[[not]] a marker", "[[not]] a marker", False),
        ("The word [[no answer]] is ours.", "The word [[no answer]] is ours.", False),
        ("[[no", "[[no", False),
    ],
)
def test_the_marker_is_taken_off_the_beginning(answer: str, shown: str, declared: bool, size: int) -> None:
    found = NoAnswerFilter()
    pieces = [found.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    assert "".join((*pieces, found.flush())) == shown
    assert found.declared is declared


def test_an_answer_is_not_held_back_for_the_marker() -> None:
    found = NoAnswerFilter()
    assert found.feed("The") == "The"
    assert found.feed(" [[") == " [["
