"""What a chunk is: an exact range of a page, within its size, losing nothing, however odd the text."""

import re
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rag import atoms, local_model
from app.rag.chunking import Chunk, Page, split

PROSE = (
    "Unused annual leave lapses on 31 March of the following year. An employee who was ill for longer than six"
    " weeks keeps it for fifteen months! Who decides on exceptions? The head of the department does, in writing.\n"
)
ARTICLE = "\n".join(f"# Section {number}\n\n{PROSE * 3}" for number in range(1, 13))

# The same in other languages; the English has 206 characters, the Chinese 62.
TRANSLATED = {
    "indonesian": "Cuti tahunan yang tidak digunakan hangus pada tanggal 31 Maret tahun berikutnya. Karyawan yang sakit"
    " lebih lama dari enam minggu menyimpannya selama lima belas bulan! Siapa yang memutuskan pengecualian? Kepala"
    " bagian yang melakukannya, secara tertulis.\n",
    "spanish": "Las vacaciones anuales no disfrutadas caducan el 31 de marzo del año siguiente. ¡Un empleado que estuvo"
    " enfermo más de seis semanas las conserva durante quince meses! ¿Quién decide sobre las excepciones? Lo hace el"
    " jefe del departamento, por escrito.\n",
    "russian": "Неиспользованный ежегодный отпуск сгорает 31 марта следующего года. Сотрудник, который болел дольше"
    " шести недель, сохраняет его пятнадцать месяцев! Кто решает об исключениях? Руководитель отдела, в письменном"
    " виде.\n",
    "hindi": "अप्रयुक्त वार्षिक अवकाश अगले वर्ष 31 मार्च को समाप्त हो जाता है। जो कर्मचारी छह सप्ताह से अधिक समय तक बीमार रहा, उसके"
    " पास यह पंद्रह महीने तक रहता है! अपवादों का निर्णय कौन करता है? विभाग का प्रमुख लिखित रूप में करता है।\n",
    "arabic": "تسقط الإجازة السنوية غير المستخدمة في 31 مارس من السنة التالية. الموظف الذي مرض أكثر من ستة أسابيع يحتفظ"
    " بها لمدة خمسة عشر شهرا! من يقرر الاستثناءات؟ رئيس القسم يفعل ذلك كتابة.\n",
    "vietnamese": "Ngày nghỉ phép năm chưa sử dụng hết hiệu lực vào ngày 31 tháng 3 năm sau. Nhân viên bị ốm lâu hơn sáu"
    " tuần được giữ nó trong mười lăm tháng! Ai quyết định về các trường hợp ngoại lệ? Trưởng phòng quyết định bằng văn"
    " bản.\n",
    "thai": "วันลาพักร้อนประจำปีที่ไม่ได้ใช้จะหมดอายุในวันที่ 31 มีนาคมของปีถัดไป พนักงานที่ป่วยนานกว่าหกสัปดาห์จะเก็บไว้ได้สิบห้าเดือน"
    " ใครเป็นผู้ตัดสินใจเรื่องข้อยกเว้น หัวหน้าแผนกเป็นผู้ตัดสินใจเป็นลายลักษณ์อักษร\n",
    "chinese": "未使用的年假在次年三月三十一日失效。病假超过六周的员工可以将其保留十五个月！谁来决定例外情况？由部门主管以书面形式决定。\n",
    "japanese": "未使用の年次休暇は翌年の三月三十一日に失効します。六週間を超えて病気だった従業員は十五か月間それを保持できます！"
    "例外は誰が決めますか？部門長が書面で決めます。\n",
    "korean": "사용하지 않은 연차 휴가는 다음 해 3월 31일에 소멸됩니다. 6주 이상 아팠던 직원은 15개월 동안 휴가를 유지합니다!"
    " 예외는 누가 결정합니까? 부서장이 서면으로 결정합니다.\n",
}

HOSTILE = {
    "no space": "a" * 60_000,
    "hexadecimal": "0123456789abcdef" * 4_000,
    "only newlines inside": "a" + "\n" * 60_000 + "b",
    "one space after each letter": "a " * 20_000,
    "far apart": ("x" + " " * 999) * 60,
    "ideographs": "漢字文化圏" * 4_000,
    "sentences of ideographs": "漢字。" * 6_000,
    "thai": "พนักงานสามารถเก็บวันลาพักร้อน" * 800,
    "korean": "각국의" * 8_000,
    "combining marks": "\u0301" * 30_000,
    "one letter under many marks": "e" + "\u0301" * 30_000,
    "families": "👨\u200d👩\u200d👧\u200d👦" * 3_000,
    "flags and skins": "🇲🇾👍🏽" * 5_000,
    "punctuation": ".!?" * 10_000,
    "sentence ends without space": ". A" * 8_000,
    "quotation marks": "\"'" * 10_000,
    "windows lines": "line\r\n" * 8_000,
    "form feeds": "page\x0c" * 8_000,
    "zero width spaces": "word\u200b" * 6_000,
    "null characters": "\x00" * 30_000,
    "special tokens": "[CLS] [SEP] [MASK][UNK]" * 1_500,
    "a table": "| 1,234.56 | €7 | n/a |\n" * 1_500,
    "astral letters": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢" * 3_000,
    "arabic": "كم من الوقت يمكن للموظف؟ " * 1_200,
}

# Every kind of character that has a rule somewhere, so that hypothesis needn't find them.
PARTS = st.sampled_from(
    [
        *" \t\n\r\x0b\x0c\x1c\x85\xa0\u2028\u3000\x00\u200b\u200d\ufeff\xad",
        *"aZ9.,!?;:'\"()[]{}#-_/\\|*~$€",
        *"éßİſﬁ¼Σς\u0301\u0308\ufe0f\U0001f3fd",
        *"漢字。！？「」（）、豈\U00020000\U0002f800",
        *"각ㄱ가\u1100\u1161พ่ا؟۔क्ष।👨👩👧🇲",
        "\r\n",
        "\n\n",
        "[SEP]",
        "internationalization",
        "word ",
        "Sentence. ",
        "x" * 49,
        "각" * 60,
    ]
)
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(PARTS, max_size=120).map("".join),
    st.lists(
        st.lists(PARTS, min_size=1, max_size=8).map("".join).map(lambda part: part * 9), max_size=12
    ).map("".join),
)
SIZES = st.tuples(st.integers(8, 80), st.integers(0, 79)).map(lambda pair: (pair[0], pair[1] % pair[0]))


def chunks_of(text: str, size_tokens: int = 200, overlap_tokens: int = 20) -> list[Chunk]:
    return split([Page(1, text)], size_tokens=size_tokens, overlap_tokens=overlap_tokens)


def tokens_of(part: str, page: str, size_tokens: int) -> int:
    """As sizes count them: the tokenizer's, each for what it counts on its page, and the two marks."""
    share = atoms.read(page, most_tokens=size_tokens - 2).share
    return 2 + int((local_model.count_tokens(part) - 2) * share)


def assert_sound(
    pages: Sequence[Page], chunks: Sequence[Chunk], *, size_tokens: int, overlap_tokens: int
) -> None:
    by_number = {page.number: page.text for page in pages}
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert by_number[chunk.page][chunk.start : chunk.end] == chunk.text
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        assert len(chunk.text) <= size_tokens * 8
        assert tokens_of(chunk.text, by_number[chunk.page], size_tokens) <= size_tokens
    for one, other in pairwise(chunks):
        assert one.page <= other.page
        if one.page == other.page:
            assert one.start < other.start
            assert one.end < other.end
            repeated = by_number[one.page][other.start : one.end]
            assert tokens_of(repeated, by_number[one.page], size_tokens) - 2 <= overlap_tokens
    for page in pages:
        left = list(page.text)
        for chunk in chunks:
            if chunk.page == page.number:
                left[chunk.start : chunk.end] = " " * (chunk.end - chunk.start)
        assert not "".join(left).strip()


@given(text=TEXTS, sizes=SIZES)
@settings(max_examples=300, deadline=None)
def test_chunks_are_exact_ranges_within_their_size_that_lose_nothing(
    text: str, sizes: tuple[int, int]
) -> None:
    size_tokens, overlap_tokens = sizes

    chunks = chunks_of(text, size_tokens, overlap_tokens)

    assert_sound([Page(1, text)], chunks, size_tokens=size_tokens, overlap_tokens=overlap_tokens)
    assert chunks == chunks_of(text, size_tokens, overlap_tokens)


@given(texts=st.lists(TEXTS, max_size=5))
@settings(max_examples=50, deadline=None)
def test_pages_keep_their_order_and_their_chunks_to_themselves(texts: list[str]) -> None:
    pages = [Page(number, text) for number, text in enumerate(texts, start=3)]

    chunks = split(pages, size_tokens=24, overlap_tokens=6)

    assert_sound(pages, chunks, size_tokens=24, overlap_tokens=6)
    apart = [
        (page.number, chunk.start, chunk.end)
        for page in pages
        for chunk in split([page], size_tokens=24, overlap_tokens=6)
    ]
    assert [(chunk.page, chunk.start, chunk.end) for chunk in chunks] == apart


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_chunked_soundly_in_linear_time(text: str) -> None:
    began = time.thread_time()
    chunks = chunks_of(text)
    seconds = time.thread_time() - began

    assert_sound([Page(1, text)], chunks, size_tokens=200, overlap_tokens=20)
    # Ten times what it takes; anything quadratic takes a hundred times that.
    assert seconds < 1.5


def test_chunks_hold_whole_sentences_where_they_can() -> None:
    chunks = chunks_of(ARTICLE)

    assert len(chunks) > 5
    for chunk in chunks:
        assert re.search(r"(?:[.!?]|Section \d+)$", chunk.text)


def test_a_heading_begins_a_chunk_rather_than_ending_one() -> None:
    chunks = chunks_of(ARTICLE, overlap_tokens=0)

    assert not [chunk.text for chunk in chunks if re.search(r"# Section \d+$", chunk.text)]
    assert len([chunk.text for chunk in chunks if chunk.text.startswith("# Section")]) > 5


def test_an_initial_ends_no_sentence() -> None:
    text = "The computing scale was patented by Julius E. Pitrap and sold by others. " * 40

    for chunk in chunks_of(text):
        assert chunk.text.endswith("others.")


@pytest.mark.parametrize("text", TRANSLATED.values(), ids=TRANSLATED.keys())
def test_a_size_holds_about_as_much_text_in_every_language(text: str) -> None:
    english = atoms.read(PROSE * 60, most_tokens=198).tokens_before[-1]

    translated = atoms.read(text * 60, most_tokens=198).tokens_before[-1]

    assert 0.8 < translated / english < 1.6


@pytest.mark.parametrize("text", [ARTICLE, PROSE, "a " * 2_000, HOSTILE["a table"]])
def test_english_and_numbers_count_the_tokens_of_the_model(text: str) -> None:
    assert atoms.read(text, most_tokens=198).share == 1


def test_chunks_are_mostly_full() -> None:
    sizes = [local_model.count_tokens(chunk.text) for chunk in chunks_of(PROSE * 60)]

    assert min(sizes) > 90
    assert sum(sizes) / len(sizes) > 150


def test_neighbours_repeat_what_the_overlap_has_room_for() -> None:
    words = " ".join(f"word{number}" for number in range(400))

    chunks = chunks_of(words, size_tokens=100, overlap_tokens=30)

    for one, other in pairwise(chunks):
        assert 24 <= local_model.count_tokens(words[other.start : one.end]) - 2 <= 30


def test_no_overlap_repeats_nothing() -> None:
    for one, other in pairwise(chunks_of(ARTICLE, overlap_tokens=0)):
        assert one.end <= other.start


def test_a_short_text_is_one_chunk_without_the_space_around_it() -> None:
    assert chunks_of("\ufeff \n One sentence.\r\n\x0c ") == [
        Chunk(ordinal=0, page=1, start=0, end=17, text="\ufeff \n One sentence.")
    ]
    assert chunks_of(" \n One sentence.\r\n ") == [
        Chunk(ordinal=0, page=1, start=3, end=16, text="One sentence.")
    ]


def test_the_last_chunk_is_not_left_a_few_words() -> None:
    text = " ".join(["word"] * 205)

    first, second = chunks_of(text, overlap_tokens=0)

    assert len(second.text) > len(first.text) / 3


@pytest.mark.parametrize("text", ["", " ", "\n" * 1000, "\x0c\x0c", "\u3000\u2003\t\x85\x1c"])
def test_a_blank_page_has_no_chunks(text: str) -> None:
    assert split([Page(1, text), Page(2, "text"), Page(3, text)], size_tokens=200, overlap_tokens=20) == [
        Chunk(ordinal=0, page=2, start=0, end=4, text="text")
    ]


def test_characters_seen_as_one_are_not_cut_apart() -> None:
    family = "👨\u200d👩\u200d👧\u200d👦"

    for chunk in chunks_of(family * 300, overlap_tokens=0):
        assert chunk.text == family * (len(chunk.text) // len(family))
    for chunk in chunks_of("e\u0301" * 3000):
        assert chunk.text.startswith("e")


def test_a_chunk_of_256_tokens_is_read_whole_by_the_model() -> None:
    chunks = chunks_of(PROSE * 60, size_tokens=local_model.MAX_TOKENS)
    encoder = local_model.load()

    for chunk, token_ids in zip(chunks, encoder.tokenize([chunk.text for chunk in chunks]), strict=True):
        assert len(token_ids) == local_model.count_tokens(chunk.text)


@pytest.mark.parametrize(("size_tokens", "overlap_tokens"), [(7, 0), (0, 0), (100, 100), (100, -1), (50, 60)])
def test_impossible_sizes_are_refused(size_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(ValueError, match="can't overlap"):
        chunks_of("text", size_tokens, overlap_tokens)


def test_the_tokenizer_begins_anew_at_every_character_that_ends_an_atom() -> None:
    tokenizer = local_model.load_tokenizer()
    character_classes = {
        re.compile(f"[{atoms.SPACE}]"): 0,
        re.compile(f"[{atoms.MARKS}{atoms.IDEOGRAPHS}]"): 1,
    }
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000)]))
    for pattern, tokens in character_classes.items():
        characters = pattern.findall(everything)
        assert len(characters) > 20
        encodings = tokenizer.encode_batch_fast(
            [f"retrie{character}val" for character in characters], add_special_tokens=False
        )
        apart = len(tokenizer.encode("retrie val", add_special_tokens=False))
        assert {
            character for character, e in zip(characters, encodings, strict=True) if len(e) != apart + tokens
        } == set()


def test_no_character_becomes_more_tokens_than_assumed() -> None:
    tokenizer = local_model.load_tokenizer()
    characters = list(map(chr, [*range(0xD800), *range(0xE000, 0x20000)]))
    encodings = tokenizer.encode_batch_fast(characters, add_special_tokens=False)

    assert max(map(len, encodings)) == atoms.MAX_TOKENS_PER_CHAR
    for character, encoding in zip(characters, encodings, strict=True):
        assert len(encoding) <= atoms.bound_tokens(character)


def test_other_threads_run_while_a_thread_chunks() -> None:
    text = ARTICLE * 60
    chunking_thread = threading.Thread(target=chunks_of, args=(text,))
    late_seconds: list[float] = []

    chunking_thread.start()
    while chunking_thread.is_alive():
        began = time.perf_counter()
        time.sleep(0.002)
        late_seconds.append(time.perf_counter() - began - 0.002)
    chunking_thread.join()

    late_seconds.sort()
    assert len(late_seconds) > 5
    assert (
        late_seconds[len(late_seconds) * 9 // 10] < 0.5
    )  # held to its end, the lock would come back after seconds


def columns_of(text: str, most_tokens: int) -> tuple[object, ...]:
    found = atoms.read(text, most_tokens=most_tokens)
    return found.starts, found.ends, found.tokens_before, found.cuts


@given(text=TEXTS, most_tokens=st.sampled_from([6, 198]), window=st.sampled_from([7, 20_000]))
@settings(max_examples=300, deadline=None)
def test_a_text_read_at_once_has_the_atoms_that_it_has_read_one_by_one(
    text: str, most_tokens: int, window: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(atoms, "_WORTH_IT", len(text) + 1)
        expected = columns_of(text, most_tokens)
        patched.setattr(atoms, "_WORTH_IT", 0)
        patched.setattr(atoms, "_WINDOW", window)
        patched.setattr(atoms, "_LONGEST_WINDOW", 3 * window)
        assert columns_of(text, most_tokens) == expected


def test_characters_that_nothing_is_known_of_are_no_space_mark_or_ideograph() -> None:
    beyond = "".join(map(chr, range(atoms._LAST_CODE, 0x110000)))
    assert not re.search(f"[{atoms.SPACE}{atoms.MARKS}{atoms.IDEOGRAPHS}]", beyond)
