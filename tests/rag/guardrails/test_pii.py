"""Personal data is found where it stands, and little else is taken for it."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from app.rag.guardrails import pii
from app.rag.guardrails.kinds import PiiKind

EVALUATION: Final = Path(__file__).parents[4] / "shared" / "eval" / "pii" / "pii.jsonl"
KINDS: Final = {
    "CREDIT_CARD": PiiKind.CARD,
    "PHONE_NUMBER": PiiKind.PHONE,
    "EMAIL_ADDRESS": PiiKind.EMAIL,
    "IBAN_CODE": PiiKind.IBAN,
    "US_SSN": PiiKind.NATIONAL_ID,
    "US_DRIVER_LICENSE": PiiKind.NATIONAL_ID,
    "IP_ADDRESS": PiiKind.IP_ADDRESS,
}


def found(text: str) -> list[tuple[str, PiiKind]]:
    return [(text[start:end], kind) for start, end, kind in pii.find(text)]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Write to Ann.B+x@sub.example.co.uk, please", "Ann.B+x@sub.example.co.uk", PiiKind.EMAIL),
        ("他的邮箱是bob@example.org谢谢", "bob@example.org", PiiKind.EMAIL),
        ("Schreib an müller@bücher.de!", "müller@bücher.de", PiiKind.EMAIL),
        ("Hubungi 03-7956 1234", "03-7956 1234", PiiKind.PHONE),
        ("Talian kami: +60 12-345 6789 2024", "+60 12-345 6789", PiiKind.PHONE),
        ("电话13800138000谢谢", "13800138000", PiiKind.PHONE),
        ("(579)888-3058x12 any time", "(579)888-3058x12", PiiKind.PHONE),
        ("4111 1111 1111 1111 exp 12/26", "4111 1111 1111 1111", PiiKind.CARD),
        ("Amex 3714-496353-98431.", "3714-496353-98431", PiiKind.CARD),
        ("卡号4111111111111111，谢谢", "4111111111111111", PiiKind.CARD),
        ("GB82 WEST 1234 5698 7654 32 and more", "GB82 WEST 1234 5698 7654 32", PiiKind.IBAN),
        ("MyKad 900101-14-5555", "900101-14-5555", PiiKind.NATIONAL_ID),
        ("kad pengenalan 900101145555 beliau", "900101145555", PiiKind.NATIONAL_ID),
        ("SSN 078-05-1120", "078-05-1120", PiiKind.NATIONAL_ID),
        ("NIK 3173044106900001", "3173044106900001", PiiKind.NATIONAL_ID),
        ("NRIC S1234567D", "S1234567D", PiiKind.NATIONAL_ID),
        ("DNI 12345678Z", "12345678Z", PiiKind.NATIONAL_ID),
        ("身份证11010519491231002X的人", "11010519491231002X", PiiKind.NATIONAL_ID),
        ("personnummer 811228-9874", "811228-9874", PiiKind.NATIONAL_ID),
        ("CPF 529.982.247-25", "529.982.247-25", PiiKind.NATIONAL_ID),
        ("my passport number is A12345678", "A12345678", PiiKind.NATIONAL_ID),
        ("key sk-proj-abcDEF123456ghiJKL7890", "sk-proj-abcDEF123456ghiJKL7890", PiiKind.API_KEY),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", PiiKind.API_KEY),
        ("password: Tr0ub4dor&3x", "Tr0ub4dor&3x", PiiKind.API_KEY),
        ("postgres://user:s3cretpw@db:5432/x", "s3cretpw", PiiKind.API_KEY),
        ("server 86.121.97.248", "86.121.97.248", PiiKind.IP_ADDRESS),
        ("from fe80::1ff:fe23:4567:890a", "fe80::1ff:fe23:4567:890a", PiiKind.IP_ADDRESS),
    ],
)
def test_personal_data_is_found_exactly(text: str, value: str, kind: PiiKind) -> None:
    assert found(text) == [(value, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "MyKad 901301-14-5555 has a thirteenth month",
        "order 4167 6003 99 of 2024-11-21 10:30:45",
        "4111 1111 1111 1112",
        "revenue of 123 456 789 in 1990-1995, up 12.5 %",
        "ISBN 978-3-16-148410-0, chapter 3.2.1.4, version 10.20.30.40",
        "1.746.986 laki-laki, Nomor 171/1973",
        "the token is valid until 2024, the password is required",
        "sk-learn-pipeline-example-2, a@b, @example.com",
        "GB82 WEST 1234 5698 7654 33",
    ],
)
def test_numbers_of_other_things_are_left(text: str) -> None:
    assert found(text) == []


def test_a_private_key_goes_as_a_whole_also_where_it_is_cut_off() -> None:
    body = "\n".join(["MIIEowIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MhgwMb"] * 20)
    whole = f"a\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nb"
    ((value, kind),) = found(whole)
    assert kind is PiiKind.API_KEY
    assert value.startswith("-----BEGIN")
    assert value.endswith("END RSA PRIVATE KEY-----")
    ((value, _),) = found(whole[:600])
    assert whole[:600].endswith(value)


def test_only_the_kinds_asked_for_are_found() -> None:
    text = "ann@example.org, 4111 1111 1111 1111"
    assert [finding.kind for finding in pii.find(text, {PiiKind.CARD})] == [PiiKind.CARD]
    assert pii.find(text, frozenset()) == []


def test_recall_and_precision_on_presidios_texts(capsys: pytest.CaptureFixture[str]) -> None:
    if not EVALUATION.exists():
        pytest.skip("the evaluation set of personal data is not here")
    wanted: Counter[PiiKind] = Counter()
    caught: Counter[PiiKind] = Counter()
    right = wrong = 0
    for line in EVALUATION.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        row: dict[str, Any] = json.loads(line)
        gold = [(s["start"], s["end"], KINDS[s["type"]]) for s in row["spans"] if s["type"] in KINDS]
        findings = pii.find(row["text"])
        for start, end, kind in gold:
            wanted[kind] += 1
            caught[kind] += any(f.kind is kind and f.start <= start and end <= f.end for f in findings)
        for finding in findings:
            is_right = any(
                kind is finding.kind and finding.start < end and start < finding.end
                for start, end, kind in gold
            )
            right, wrong = right + is_right, wrong + (not is_right)
    recall, precision = caught.total() / wanted.total(), right / (right + wrong)
    with capsys.disabled():
        print(f"\npersonal data: recall {recall:.3f}, precision {precision:.3f}, {wanted.total()} values")
    assert recall >= 0.95
    assert precision >= 0.9
    assert all(caught[kind] >= 0.9 * wanted[kind] for kind in wanted)


def _hostile() -> dict[str, str]:
    numbers = random.Random(6)
    return {
        "digits": "1" * 200_000,
        "ats": "@" * 200_000,
        "dots": "." * 200_000,
        "blanks": " " * 200_000,
        "half addresses": "a@a." * 50_000,
        "pairs": "12 34 " * 30_000,
        "cards": "4111 1111 1111 1112 " * 10_000,
        "accounts": "GB56 HXDO 8816 7774 6561 18 " * 10_000,
        "keys": "-----BEGIN RSA PRIVATE KEY-----" * 5_000,
        "tokens": "eyJaaaaaaaaaa." * 14_000,
        "international": " ".join(f"+{numbers.randrange(10**9, 10**12)}" for _ in range(10_000)),
        "doubtful": " ".join(f"416 600 {number % 90 + 10}" for number in range(3_000)),
    }


@pytest.mark.parametrize("name", list(_hostile()))
def test_no_text_takes_more_than_linear_time(name: str) -> None:
    """These take tenths of a second; with a quadratic pattern the test would run into its timeout."""
    text = _hostile()[name]
    for finding in pii.find(text):
        assert text[finding.start : finding.end].strip()


def test_of_a_text_full_of_digits_every_long_number_is_taken_unchecked() -> None:
    text = "id 1234567890\n" * 5_000
    assert len(pii.find(text)) == 5_000
