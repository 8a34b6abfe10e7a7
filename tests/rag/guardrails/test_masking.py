"""What is masked comes back as it was, in one piece or in a stream, and only where it may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rag.guardrails.kinds import PiiKind
from app.rag.guardrails.masking import Redactor, Restorer, Vault

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc123\nabcd\n-----END RSA PRIVATE KEY-----"


def test_the_same_value_has_the_same_placeholder_however_it_is_written() -> None:
    vault = Vault()
    assert vault.mask("I am Ann.B@x.com, call 012-345 6789") == "I am [EMAIL_1], call [PHONE_1]"
    assert vault.mask("ann.b@X.com bob@y.org 012 345 6789") == "[EMAIL_1] [EMAIL_2] [PHONE_1]"
    assert vault.masked == {PiiKind.EMAIL: 3, PiiKind.PHONE: 2}


def test_what_looks_like_a_placeholder_comes_back_as_it_was() -> None:
    vault = Vault()
    text = "[EMAIL_1] is how we write ann@x.com or [PHONE_7]"
    masked = vault.mask(text)
    assert masked == "[TEXT_1] is how we write [EMAIL_1] or [TEXT_2]"
    assert vault.restore(masked) == text


def test_placeholders_are_read_as_models_write_them() -> None:
    vault = Vault()
    vault.mask("ann@x.com, GB82 WEST 1234 5698 7654 32, SSN 078-05-1120")
    answer = r"\[EMAIL\_1\] 【email_1】 [Iban_1] \[NATIONAL\_ID\_1\] [EMAIL_9] [1]"
    assert (
        vault.restore(answer) == "ann@x.com ann@x.com GB82 WEST 1234 5698 7654 32 078-05-1120 [EMAIL_9] [1]"
    )


def test_only_what_the_reader_has_said_comes_back_where_answers_are_masked() -> None:
    vault = Vault()
    vault.mask("I am ann@x.com", own=True)
    vault.mask("bob@y.org knows ann@x.com")
    assert vault.restore("[EMAIL_1] and [EMAIL_2]", only_own=True) == "ann@x.com and [EMAIL_2]"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_a_placeholder_split_over_deltas_is_put_back(size: int) -> None:
    vault = Vault()
    vault.mask("ann@x.com and 012-345 6789")
    answer = "Write to [EMAIL_1] [1], [link](x) or call \\[PHONE\\_1\\]; not [EMAIL_2"
    restorer = Restorer(vault)
    pieces = [restorer.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    expected = "Write to ann@x.com [1], [link](x) or call 012-345 6789; not [EMAIL_2"
    assert "".join((*pieces, restorer.flush())) == expected


def test_a_stream_without_values_is_not_held_back() -> None:
    restorer = Restorer(Vault())
    assert restorer.feed("see [") == "see ["


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Call 012-345 6789 or write to carl@z.com. Bye", "Call [PHONE_1] or write to [EMAIL_1]. Bye"),
        ("Card 4111 1111 1111 1111, in 2024", "Card [CARD_1], in 2024"),
        (f"The key:\n{PEM}\nThat is all.", "The key:\n[API_KEY_1]\nThat is all."),
        ("他的邮箱是bob@y.org谢谢", "他的邮箱是[EMAIL_1]谢谢"),
        ("Pay to DE89 3704 0044 0532 0130 00 [1].", "Pay to [IBAN_1] [1]."),
        ("IBAN GB82 WEST 1234 5698 7654 32, or gb82 WEST 1234 5698 7654 32.", "IBAN [IBAN_1], or [IBAN_1]."),
        (
            "National Insurance number AB 12 34 56 C is his",
            "National Insurance number [NATIONAL_ID_1] is his",
        ),
        ("MY ACME CARD 4111 1111 1111 1111 AND MORE", "MY ACME CARD [CARD_1] AND MORE"),
        ("Nothing personal here: 12 of 34 [1].", "Nothing personal here: 12 of 34 [1]."),
    ],
)
def test_an_answer_is_redacted_while_it_streams(answer: str, expected: str, size: int) -> None:
    redactor = Redactor(Vault())
    pieces = [redactor.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    assert "".join((*pieces, redactor.flush())) == expected


def test_what_the_reader_has_said_is_not_redacted() -> None:
    vault = Vault()
    vault.mask("I am ann@x.com", own=True)
    redactor = Redactor(vault)
    assert redactor.feed("ann@x.com is not bob@y.org ") + redactor.flush() == "ann@x.com is not [EMAIL_2] "
    assert redactor.masked == {PiiKind.EMAIL: 1}


def test_a_plain_answer_is_held_back_by_no_more_than_a_word() -> None:
    redactor = Redactor(Vault())
    shown = ""
    text = "The office opens at nine on weekdays and closes at five. " * 5
    for at, character in enumerate(text):
        shown += redactor.feed(character)
        assert at + 1 - len(shown) <= len("weekdays")


@given(st.text(alphabet="ab1 [](){}@._-+\\EMAILPHON日0\n", max_size=200), st.integers(1, 9))
def test_masking_and_restoring_any_text_gives_it_back(text: str, size: int) -> None:
    vault = Vault()
    masked = vault.mask(text)
    restorer = Restorer(vault)
    pieces = [restorer.feed(masked[at : at + size]) for at in range(0, len(masked), size)]
    assert "".join((*pieces, restorer.flush())) == vault.restore(masked) == vault.restore(vault.mask(text))
