"""Words that a paraphrase takes for each other, and those that any statement may be made of.

English, and Malay with Indonesian. Each group says the same of the same thing in ordinary prose; what is only near (a part, a kind, a
degree) is in none, because an answer that says it says something else than its source.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from app.rag import languages

ENGLISH: Final = """
develop create devise make made build built construct; start begin began begun commence; end finish conclude cease; use employ utilise utilize apply;
show shown demonstrate prove reveal indicate; need require necessitate necessary; obtain receive acquire gain; help assist aid support;
permit allow enable let; buy bought purchase; locate situate; find discover; describe portray depict; offer supply furnish;
choose chose chosen select pick elect; contain include comprise incorporate; cause trigger; happen occur; try attempt; name term dub label call;
believe think thought consider regard; write wrote written declare mention explain; claim assert argue contend; increase rise rose risen grow grew grown climb;
decrease decline fall fell fallen drop reduce lessen; die perish; live reside dwell; leave left depart; seek sought pursue; stop halt; keep kept retain maintain;
replace substitute supersede; hold held possess own; establish found; understand understood comprehend; speak spoke spoken talk; fight fought battle;
move shift relocate; divide split separate; win won; lose lost; lead led; bring brought; sell sold; teach taught; pay paid; become became; draw drew drawn; see saw seen; know knew; come came; run ran; mean meant; meet met; spend spent; break broke broken; wear wore worn; drive drove driven; sing sang sung; link connect; publish issue release; suggest propose recommend; control govern rule;
defeat beat; approve authorise authorize; check examine inspect verify; ask request; answer reply respond; send sent dispatch transmit;
important significant crucial key vital essential; main principal primary chief mostly; large big great huge vast; small little tiny;
many numerous several multiple; quick fast rapid swift; entire whole complete full; different various diverse distinct;
typical usual normal general; near close; famous renowned known; correct right accurate; hard difficult; easy simple; new novel;
common widespread; yearly annual; wealthy rich affluent; previous prior former; next subsequent later afterwards;
people person individual human; kid child; area region zone; country nation; town city; firm company corporation business;
worker employee staff; student pupil; film movie; automobile car; house home; job occupation; illness disease sickness;
doctor physician; law legislation statute; goal objective purpose aim; method technique; amount quantity; part portion section;
kind type sort; fee charge; mistake error; picture image; group team; war conflict; often frequent;
also additionally too moreover; about approximately roughly around circa; only solely merely;
now currently presently; together jointly; however nevertheless nonetheless;
because since; until till; within inside; per each every"""
MALAY: Final = """
guna pakai; tamat habis berakhir; perlu harus mesti wajib; beri kasih sedia; besar agung; penting utama; banyak ramai; orang individu;
pekerja kakitangan karyawan; syarikat perusahaan; bandar kota; sekitar kira-kira; hanya cuma; juga turut; kerana karena sebab; nama gelar;
cipta buat bina; kata ujar; baharu baru; kereta mobil; wang uang; minta mohon; mati meninggal wafat;
doktor dokter; setiap tiap"""
# They carry no fact, so no source need have them.
_FREE: Final = frozenset(
    """company organisation organization institution system product service person author document source text passage article section
    thing things way fact case example instance process number kind state states stated say says said according mention mentions describes
    explains report reports notes get gets give gives given take takes go goes remain remains provide provides provided providing like
    located available able likely possible specifically particular particularly respectively well
    syarikat organisasi sistem produk perkhidmatan dokumen sumber menurut iaitu yaitu""".split()
)


def canonical(key: str, language: str) -> str:
    """One stem for all folded words that say the same."""
    if key in _FREE:
        return key
    stem = languages.stem(key, language)
    return _groups(language).get(stem, stem)


def is_free(stem: str) -> bool:
    """Whether a statement may have it (as `canonical` gives it) though its source does not."""
    return stem in _FREE


@cache
def _groups(language: str) -> Mapping[str, str]:
    listed = {"en": ENGLISH, "ms": MALAY, "id": MALAY}.get(language, "")
    groups = [[languages.stem(word, language) for word in group.split()] for group in listed.split(";")]
    return {stem: group[0] for group in groups for stem in group}
