"""Words near a number that say what it is ("phone", "IC no.", "kad kredit"), in the languages that people write them in.

A number that could be many things counts as personal data only beside such a word. Looking is bounded: a window of some
forty characters on each side, at most `MOST_LOOKS` times for one text; past that every doubtful number is taken.
"""

import re
from typing import Final

MOST_LOOKS: Final = 4_000
_BEFORE: Final = 44
_AFTER: Final = 14
_WORD: Final = re.compile(r"[^\W\d_]{2,24}")


class Cues:
    """A set of words, and of pieces in scripts that put no spaces between words."""

    def __init__(self, words: str, *, unspaced: str = "") -> None:
        self._words = frozenset(words.split())
        self._unspaced = tuple(unspaced.split())

    def stand_in(self, text: str) -> bool:
        folded = text.casefold()
        if not self._words.isdisjoint(_WORD.findall(folded)):
            return True
        return not folded.isascii() and any(piece in folded for piece in self._unspaced)


class Surroundings:
    """Looks around numbers of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._looks = 0

    def say(self, cues: Cues, start: int, end: int) -> bool:
        """Whether one of the words stands closely before `start` or directly after `end`."""
        self._looks += 1
        if self._looks > MOST_LOOKS:
            return True
        before = self._text[max(0, start - _BEFORE) : start]
        after = self._text[end : end + _AFTER].partition("\n")[0]
        return cues.stand_in(before) or cues.stand_in(after)


PHONE: Final = Cues(
    "phone phones telephone tel mobile mobil cell cellphone cellular fax desk office landline hotline helpline call calls called"
    " calling dial dialled ring reach text sms whatsapp viber signal telegram contact contacts message messages registered"
    " answering pager voicemail extension hp handphone wa"
    " telefon telepon tel hubungi hubungan talian bimbit faks nombor nomor dihubungi panggil panggilan kontak ponsel selular"
    " teléfono telefono móvil movil celular llamar llame llámame llama llamada contacto fijo"
    " telefone telemóvel telemovel ligar ligue contato chame"
    " téléphone portable appeler appelez appelle joindre fixe télécopie"
    " telefonnummer handy handynummer anrufen rufnummer durchwahl festnetz ruf rückruf"
    " cellulare chiamare chiama chiamami telefoonnummer bellen telefoon mobiel"
    " telefonnummer ringa ring ringe puhelin puhelinnumero matkapuhelin numer komórka zadzwoń telefonul mobilul sunați telefonu"
    " cep ara arayın telefonszám hívjon mobilní zavolejte"
    " điện thoại gọi số simu piga tawagan numero"
    " телефон тел моб мобильный звоните позвоните факс телефону мобільний дзвоніть τηλέφωνο κινητό τηλ φαξ καλέστε"
    " هاتف الهاتف جوال موبايل فاكس اتصل رقم تلفن موبایل تماس فون"
    " फ़ोन फोन मोबाइल संपर्क कॉल ফোন মোবাইল தொலைபேசி",
    unspaced="电话 電話 手机 手機 传真 傳真 致电 致電 拨打 撥打 热线 携帯 連絡先 내선 전화 휴대폰 팩스 연락처 โทร มือถือ แฟกซ์ เบอร์ טלפון נייד ទូរស័ព្ទ ໂທ ဖုန်း",
)
CARD: Final = Cues(
    "card cards credit debit visa mastercard amex maestro kad kartu kredit tarjeta carte karte cartão carta kort karta kaart kart"
    " карта карты بطاقة कार्ड thẻ",
    unspaced="信用卡 卡号 卡號 銀行卡 银行卡 カード 카드 บัตร",
)
IBAN: Final = Cues("iban account konto cuenta compte conto rekening akaun kontonummer счет hesap")
