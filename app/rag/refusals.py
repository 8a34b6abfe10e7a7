"""The sentence that refuses a question, in the question's own language, without asking a model.

The language is guessed from the script and, among languages of the Latin script, from the small words that every question
has. A wrong guess costs a sentence in a neighbouring language, so what is not recognised gets English.
"""

import re
from collections import Counter
from typing import Final

_ENGLISH: Final = "en"
_READ_CHARACTERS: Final = 1_000
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

SENTENCES: Final = {
    "en": "I could not find an answer to this in the documents.",
    "ms": "Saya tidak menemui jawapan bagi soalan ini dalam dokumen.",
    "id": "Saya tidak menemukan jawaban atas pertanyaan ini di dalam dokumen.",
    "zh": "我在文档中没有找到这个问题的答案。",
    "zh-Hant": "我在文件中找不到這個問題的答案。",
    "ja": "文書の中に、この質問への答えは見つかりませんでした。",
    "ko": "문서에서 이 질문에 대한 답을 찾지 못했습니다.",
    "ar": "لم أجد في المستندات إجابة عن هذا السؤال.",
    "fa": "پاسخی برای این پرسش در اسناد پیدا نکردم.",
    "ur": "مجھے دستاویزات میں اس سوال کا جواب نہیں ملا۔",
    "he": "לא מצאתי במסמכים תשובה לשאלה הזאת.",
    "hi": "मुझे दस्तावेज़ों में इस प्रश्न का उत्तर नहीं मिला।",
    "bn": "নথিগুলিতে এই প্রশ্নের উত্তর পাওয়া যায়নি।",
    "ta": "இந்தக் கேள்விக்கான பதில் ஆவணங்களில் கிடைக்கவில்லை.",
    "te": "ఈ ప్రశ్నకు సమాధానం పత్రాలలో కనబడలేదు.",
    "th": "ไม่พบคำตอบของคำถามนี้ในเอกสาร",
    "lo": "ບໍ່ພົບຄຳຕອບຂອງຄຳຖາມນີ້ໃນເອກະສານ.",
    "km": "រកមិនឃើញចម្លើយចំពោះសំណួរនេះក្នុងឯកសារទេ។",
    "my": "ဤမေးခွန်း၏ အဖြေကို စာရွက်စာတမ်းများတွင် မတွေ့ပါ။",
    "el": "Δεν βρήκα απάντηση σε αυτή την ερώτηση στα έγγραφα.",
    "ru": "В документах не нашлось ответа на этот вопрос.",
    "uk": "У документах не знайшлося відповіді на це запитання.",
    "vi": "Tôi không tìm thấy câu trả lời cho câu hỏi này trong các tài liệu.",
    "es": "No he encontrado una respuesta a esto en los documentos.",
    "pt": "Não encontrei uma resposta a isto nos documentos.",
    "fr": "Je n'ai pas trouvé de réponse à cette question dans les documents.",
    "de": "Dazu habe ich in den Dokumenten keine Antwort gefunden.",
    "it": "Non ho trovato una risposta a questa domanda nei documenti.",
    "nl": "Ik heb hierop geen antwoord gevonden in de documenten.",
    "sv": "Jag hittade inget svar på detta i dokumenten.",
    "da": "Jeg fandt ikke et svar på dette i dokumenterne.",
    "nb": "Jeg fant ikke noe svar på dette i dokumentene.",
    "fi": "En löytänyt asiakirjoista vastausta tähän.",
    "pl": "Nie udało się znaleźć w dokumentach odpowiedzi na to pytanie.",
    "cs": "V dokumentech se na to nepodařilo najít odpověď.",
    "hu": "A dokumentumokban nem találtam erre választ.",
    "ro": "Nu am găsit în documente un răspuns la această întrebare.",
    "tr": "Belgelerde bu sorunun yanıtını bulamadım.",
    "tl": "Wala akong nakitang sagot dito sa mga dokumento.",
    "sw": "Sikupata jibu la swali hili katika hati.",
}

_SCRIPTS: Final = (
    ("ja", "\u3040-\u30ff"),
    ("ko", "\uac00-\ud7af\u1100-\u11ff"),
    ("zh", "\u4e00-\u9fff\u3400-\u4dbf"),
    ("ar", "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff"),
    ("he", "\u0590-\u05ff"),
    ("hi", "\u0900-\u097f"),
    ("bn", "\u0980-\u09ff"),
    ("ta", "\u0b80-\u0bff"),
    ("te", "\u0c00-\u0c7f"),
    ("th", "\u0e00-\u0e7f"),
    ("lo", "\u0e80-\u0eff"),
    ("my", "\u1000-\u109f"),
    ("km", "\u1780-\u17ff"),
    ("el", "\u0370-\u03ff\u1f00-\u1fff"),
    ("ru", "\u0400-\u04ff"),
)
_LETTERS: Final = tuple((language, re.compile(f"[{ranges}]")) for language, ranges in _SCRIPTS)
_OTHER_SCRIPT: Final = re.compile(f"[{''.join(ranges for _, ranges in _SCRIPTS)}]")

# Within a script: letters that the first language of the script does not have.
_NEIGHBOURS: Final = {
    "ar": (("ur", re.compile("[ٹڈڑںےہھ]")), ("fa", re.compile("[پچژگکی]"))),
    "ru": (("uk", re.compile("[іїєґІЇЄҐ]")),),
    "zh": (
        (
            "zh-Hant",
            re.compile(
                "[們這個說對時會來國學為與無沒嗎麼裡還點應該價錢樣誰問題條間長費貨電車請幾過後從關動]"
            ),
        ),
    ),
}

# The words that make a question or hold a sentence together. A word may stand in several languages.
_SMALL_WORDS: Final = {
    "en": "what when where who whom whose which why how is are was were do does did can could should would will the a an of"
    " to in on for with from and or it its this that there i you we they my your our many much long tell me about not has have",
    "ms": "apa apakah siapa siapakah bila bilakah mengapa kenapa bagaimana bagaimanakah berapa berapakah mana ialah adalah yang dan"
    " di ke dari daripada untuk dengan ini itu tidak boleh bolehkah saya awak kami kita kerana pada oleh dalam ada adakah bagi"
    " jika soalan tempoh cuti sila kepada telah akan syarikat",
    "id": "apa apakah siapa siapakah kapan kapankah mengapa kenapa bagaimana berapa mana adalah ialah yang dan di ke dari untuk dengan"
    " ini itu tidak bisa bisakah dapatkah saya kamu kami kita karena pada oleh dalam ada adakah bagi jika gimana nggak"
    " pertanyaan tolong kepada telah akan perusahaan anda cuti",
    "vi": "là gì ai khi nào ở đâu tại sao vì như thế bao nhiêu có không được của và trong cho với từ này đó các một những tôi bạn"
    " chúng thì mà bằng hãy",
    "es": "qué que quién quiénes cuándo cuando dónde donde cuál cuáles cómo como cuánto cuánta cuántos cuántas por para con sin"
    " de del la el los las un una es son está están en y o se su mi tu hay puede puedo tiene al",
    "pt": "que quê quem quando onde qual quais como quanto quanta quantos quantas por para com sem de do da dos das o a os as um"
    " uma é são está estão em no na nos nas e ou se seu sua meu há pode posso tem ao não",
    "fr": "que quoi qui quand où quel quelle quels quelles comment combien pourquoi est sont était le la les un une des de du et"
    " ou dans sur pour avec sans ce cette ces il elle je nous vous à au aux qu'est c'est peut puis y ne pas faut",
    "de": "was wer wen wem wann wo wohin woher welche welcher welches welchen warum wieso wie viel viele ist sind war waren der die"
    " das den dem des ein eine einen einem und oder in im am auf für mit von vom zu zum zur ich du wir sie es nicht kann darf"
    " muss gibt hat lange man",
    "it": "che cosa chi quando dove quale quali come quanto quanta quanti quante perché è sono era il lo la i gli le un uno una"
    " di del della dei delle e o in nel nella su per con senza da dal si può posso ha c'è non mio quant'è cos'è qual",
    "nl": "wat wie wanneer waar welke welk waarom hoe hoeveel is zijn was waren de het een en of in op voor met van uit naar ik je"
    " jij wij we zij niet kan mag moet heeft hebben er te lang veel",
    "sv": "vad vem när var vilken vilket vilka varför hur många mycket är och eller i på för med från till det den en ett som jag du"
    " vi de inte kan får har finns ska lång länge av",
    "da": "hvad hvem hvornår hvor hvilken hvilket hvilke hvorfor hvordan mange meget er og eller i på for med fra til det den en et som"
    " jeg du vi de ikke kan må har findes skal længe af",
    "nb": "hva hvem når hvor hvilken hvilket hvilke hvorfor hvordan mange mye er og eller i på for med fra til det den en et som jeg"
    " du vi de ikke kan må har finnes skal lenge av",
    "fi": "mikä mitä mitkä kuka ketä milloin missä mistä mihin miksi miten kuinka monta paljon on ovat oli ja tai se tämä että minä"
    " sinä me he ei voi voiko onko minun pitää kauan",
    "pl": "co kto kiedy gdzie który która które dlaczego jak ile jest są był była i lub albo w we na do dla z ze od o czy się nie"
    " to ten ta może mogę ma jaki jaka jakie długo",
    "cs": "co kdo kdy kde který která které proč jak kolik je jsou byl byla a nebo v ve na do pro z ze od o se ne to ten ta může mohu"
    " má jaký jaká jaké dlouho si není",
    "hu": "mi mit ki kit mikor hol melyik miért hogyan hány mennyi van vannak volt és vagy a az egy ez hogy nem lehet kell meddig"
    " milyen mennyibe",
    "ro": "ce cine când unde care de cum cât câtă câți câte este sunt era și sau în la pe pentru cu din un o nu se poate pot are"
    " există al ale",
    "tr": "ne kim nedir kimdir zaman nerede nereye hangi neden niçin niye nasıl kaç kadar mı mi mu mü var yok ve veya ile için bu"
    " şu bir da de olan olarak mıdır midir",
    "tl": "ano sino kailan saan alin bakit paano ilan magkano ang ng mga sa ay na at o ito iyon ba ko mo niya kami may mayroon wala"
    " hindi puwede pwede para",
    "sw": "nini nani lini wapi gani kwa nini vipi ngapi je ni na ya wa la za cha kwa katika hii hiyo huu mimi wewe sisi si kuna yangu"
    " muda",
}
_LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    word: tuple(language for language, words in _SMALL_WORDS.items() if word in words.split())
    for word in {word for words in _SMALL_WORDS.values() for word in words.split()}
}

# Letters that say more than a word does.
_TELLING_LETTERS: Final = (
    ("vi", re.compile("[ơưăạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")),
    ("es", re.compile("[ñ¿¡]")),
    ("pt", re.compile("[ãõ]")),
    ("de", re.compile("ß")),
    ("pl", re.compile("[łąęśźżćń]")),
    ("cs", re.compile("[řěů]")),
    ("hu", re.compile("[őű]")),
    ("tr", re.compile("[ğış]")),
    ("ro", re.compile("[țșă]")),
)
_LETTERS_COUNT: Final = 2


def sentence_in(language: str) -> str:
    """The refusal in a language, by its code; in English where it is not known."""
    return SENTENCES.get(language, SENTENCES[_ENGLISH])


def sentence(question: str) -> str:
    """That the documents hold no answer, in the language of the question."""
    return SENTENCES[language_of(question)]


def language_of(question: str) -> str:
    """The language that the question seems to be in, one of `SENTENCES`."""
    text = question[:_READ_CHARACTERS]
    votes = _votes(text.lower())
    foreign = len(_OTHER_SCRIPT.findall(text))
    # "EMS Eternalgy是什么?" is Chinese and "What is 能源?" English: names count for nothing, small words do.
    if foreign > 2 * max(votes.values(), default=0):
        return _by_script(text)
    if not votes:
        return _ENGLISH
    most = max(votes.values())
    return next(language for language in _SMALL_WORDS if votes[language] == most)


def _votes(text: str) -> Counter[str]:
    votes: Counter[str] = Counter()
    for word in _WORD.findall(text):
        votes.update(_LANGUAGES.get(word, ()))
    for language, letters in _TELLING_LETTERS:
        if letters.search(text):
            votes[language] += _LETTERS_COUNT
    return votes


def _by_script(text: str) -> str:
    counts = {language: len(letters.findall(text)) for language, letters in _LETTERS}
    if counts["ja"]:  # Japanese is written with Chinese characters too
        return "ja"
    script = max(counts, key=lambda language: counts[language])
    for neighbour, letters in _NEIGHBOURS.get(script, ()):
        if letters.search(text):
            return neighbour
    return script
