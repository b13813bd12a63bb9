"""What a model writes when it talks about its task or declines it, in several languages.

Regular expressions over `fold`ed text. Each must name the prompt's own objects (a passage, a given
text) or a model's own voice, so that people's questions ("I can't sleep", "the passage of time",
"how do I read a JSON file") are not hit. A language is added by a line.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import regex

from sdg.characters import NUM_CODES, batches, laid_out, text_of
from sdg.patterns import Rough

_ACCENTS = range(0x300, 0x370)
_OPENING = 400  # characters of a text that one of `Openings` ends in
_NOTHING = NUM_CODES  # what an accent is folded to
_DECOMPOSED = range(0x30000)  # planes with characters that are made of others


def fold(text: str) -> str:
    """Case, typographic apostrophes and the accents of Latin, Greek and Cyrillic folded away."""
    return fold_all([unicodedata.normalize("NFC", text).casefold()])[0]


def fold_all(texts: Sequence[str]) -> list[str]:
    """The same of many texts that are NFC, as all of a run's are, and casefolded."""
    return [folded for batch in batches(texts) for folded in _fold_batch(batch)]


def _fold_batch(texts: Sequence[str]) -> list[str]:
    codes, ends = laid_out(texts)
    codes = _folded().take(codes)
    is_there = codes != _NOTHING
    ends = np.append(0, np.cumsum(is_there))[ends]
    joined = text_of(codes.compress(is_there))
    return [joined[start:end] for start, end in pairwise([0, *ends.tolist()])]


@lru_cache(maxsize=1)
def _folded() -> np.ndarray:
    """By code point what it is folded to (uint32)."""
    folded = np.arange(NUM_CODES, dtype=np.uint32)
    folded[[0x2019, 0x2BC]] = ord("'")
    folded[_ACCENTS] = _NOTHING
    for code in _DECOMPOSED:
        if unicodedata.decomposition(chr(code)):
            parts = [c for c in unicodedata.normalize("NFD", chr(code)) if ord(c) not in _ACCENTS]
            base = unicodedata.normalize("NFC", "".join(parts))
            if len(base) == 1:  # else it is none that NFC leaves
                folded[code] = ord(base)
    return folded


class Phrases:
    """Many alternatives at once; texts and patterns are folded, so that `\\W` would be `\\w`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        joined = "|".join(f"(?:{fold(pattern)})" for pattern in patterns)
        self._exact, self._rough = regex.compile(joined), Rough(joined)

    def count(self, text: str) -> int:
        """How many of the phrases a folded text has."""
        return len(self._exact.findall(text))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The same of many texts."""
        hits = self._rough.hits(texts)
        return [self.count(text) if hit else 0 for text, hit in zip(texts, hits, strict=True)]


class Openings:
    """What texts begin with: (first words, what follows them `within` so many characters).

    Few texts have the first words; only in those is the rest looked for.
    """

    def __init__(self, phrases: Iterable[tuple[str, str]], within: int) -> None:
        folded = [(fold(first), fold(rest)) for first, rest in phrases]
        wholes = (rf"(?:{first}).{{0,{within}}}?(?:{rest})" for first, rest in folded)
        self._first = Rough(rf"^[^\w]*(?:{'|'.join(first for first, _ in folded)})")
        self._whole = regex.compile(rf"[^\w]*(?:{'|'.join(wholes)})")

    def begin(self, texts: Sequence[str], starts: Sequence[str]) -> list[bool]:
        """Which of many texts they begin, whose folded `starts` have the first words."""
        return [
            hit and self._whole.match(fold(text[:_OPENING])) is not None
            for hit, text in zip(self._first.hits(starts), texts, strict=True)
        ]


# The prompt's own words and the shapes of its answer, in any language.
LEAKED_MARKS = (
    r"</?(?:passage|document|query|text|instruction)s?>",
    r"\{\{|\}\}|\{%|```",
    r"[{\[]\s*\"(?:query|document|strategy|question)\"",
    r"^[^\w]*(?:search )?(?:query|question|keywords?|output|answer|response)\s*:",
    r"\b(?:answer|respond|reply) (?:with|in) (?:a |an )?json\b|\bjson object (?:with|and nothing)",
    r"^[^\w]*(?:sure|certainly|of course|okay|ok)[,!.:]+ (?:here|i)\b",
    r"^[^\w]*here (?:is|are|'s) (?:a|an|the|one|some|your|my)\b.{0,40}\b(?:query|question|keyword)",
    r"\bsearch quer(?:y|ies) (?:in|for|that|based)\b.{0,30}\bpassage",
    r"^[^\w]*write (?:one|a) (?:search )?(?:query|question)\b",
    r"<\|[a-z_]+\|>|\[/?inst\]",
)

# "the passage", "according to the text", "the text above".
LEAKED_TALK: dict[str, tuple[str, ...]] = {
    "am": ("በጽሑፉ መሠረት", "በጽሁፉ መሰረት", "በጽሑፉ ውስጥ", "በምንባቡ", "ከላይ ባለው ጽ[ሑሁ]ፍ", "በአንቀጹ መሠረት"),
    "ar": (
        r"(?:وفق[اً]*|طبق[اً]*|استناد[اً]*) (?:ل|إلى ا?ل)(?:لنص|نص|لمقطع|مقطع|لفقرة|فقرة)",
        r"(?:حسب|بحسب|بناء على) (?:هذا |هذه )?(?:النص|المقطع|الفقرة)",
        r"(?:النص|المقطع|الفقرة) (?:أعلاه|المذكورة?|السابقة?|التالية?|المعطاة?)",
        r"في هذا (?:النص|المقطع)|في هذه الفقرة",
    ),
    "bn": (
        "অনুচ্ছেদ(?:টি)? (?:অনুসারে|অনুযায়ী|অনুযায়ী)",
        "(?:পাঠ্য|লেখা|নিবন্ধ)(?:টি)? (?:অনুসারে|অনুযায়ী|অনুযায়ী)",
        "(?:এই|উপরের|প্রদত্ত) (?:অনুচ্ছেদ|পাঠ্য|পাঠ)",
    ),
    "en": (
        r"\b(?:the|this|that|given|above) passage\b(?! of (?:time|the|a|years)| through| to| from)",
        r"\b(?:according to|based on|mentioned in|described in|stated in) (?:the|this) "
        r"(?:given |above |provided )?(?:text|passage|document|article|excerpt|paragraph)\b",
        r"\b(?:the|this) (?:text|excerpt|article|document) "
        r"(?:says?|states?|mentions?|describes?|above)\b",
    ),
    "es": (
        r"\b(?:segun|de acuerdo con|conforme a|basado en) (?:el|este) "
        r"(?:texto|pasaje|fragmento|documento|parrafo)\b",
        r"\b(?:en|del) (?:este|el) (?:pasaje|fragmento|texto) "
        r"(?:anterior|dado|proporcionado|citado)\b",
        r"\b(?:en este (?:pasaje|texto|fragmento)|(?:el|este) texto (?:dice|menciona|describe))\b",
    ),
    "fr": (
        r"\b(?:selon|d'apres|conformement a) (?:le|ce) "
        r"(?:texte|extrait|document|paragraphe|passage)\b",
        r"\bdans ce (?:texte|extrait|document|passage)\b",
        r"\b(?:le|ce) (?:texte|passage|extrait) (?:dit|mentionne|decrit|indique|ci-dessus)\b",
    ),
    "ha": (
        r"\bbisa ga (?:wannan )?(?:nassi|nassin|rubutu|rubutun|sakin layi)\b",
        r"\bwannan (?:nassi|nassin|rubutun)\b|\b(?:nassin|rubutun) da (?:ke|aka) (?:sama|bayar)\b",
    ),
    "hi": (
        "गद्यांश",
        "(?:अनुच्छेद|पाठ|लेख|परिच्छेद|दस्तावेज़) के (?:अनुसार|आधार पर|मुताबिक)",
        "(?:दिए गए|उपरोक्त|ऊपर दिए|इस) (?:अनुच्छेद|पाठ|परिच्छेद)",
    ),
    "id": (
        r"\b(?:menurut|berdasarkan) (?:teks|bacaan)\b",
        r"\b(?:teks|bacaan|paragraf) (?:ini|di atas|tersebut)\b",
    ),
    "pt": (r"\b(?:segundo|de acordo com|conforme) (?:o|este) (?:texto|trecho|documento)\b",),
    "ru": (
        r"(?:согласно|исходя из) (?:этому |данному |этого |данного )?"
        r"(?:тексту?а?|отрывку?а?|документу?а?)\b",
        r"\b(?:в|во|из) (?:этом|этого|данном|данного|приведенном|приведенного) "
        r"(?:тексте?а?|отрывке?а?|документе?а?)\b",
        r"\b(?:в тексте|в отрывке) (?:говорится|упоминается|сказано|описан)",
    ),
    "sw": (
        r"\b(?:kulingana na|kwa mujibu wa|kutokana na|katika) "
        r"(?:kifungu|matini|maandishi|makala|andiko|nakala) "
        r"(?:hiki|hicho|haya|hayo|hii|hili|hilo)\b",
        r"\b(?:kifungu hiki|matini haya|maandishi (?:haya|hayo|yaliyo)|andiko hili)\b",
    ),
    "th": (
        "ตาม(?:เนื้อหา|ข้อความ|บทความ|เนื้อเรื่อง|บทอ่าน)",
        "(?:ข้อความ|บทความ|เนื้อหา)(?:ข้างต้น|ด้านบน|นี้|ที่ให้มา)",
    ),
    "yo": (
        r"\b(?:gege bi|ninu|lati inu) (?:ayoka|aaye oro|iwe|oro) (?:yii|naa|yi|na)\b",
        r"\bayoka (?:yii|naa|yi|oke)\b",
    ),
    "zh": (
        "(?:根据|依据|按照|依照|據|根據)(?:这|該|该|本|上|以上|上述|所给|给定)?(?:篇|段)?"
        "(?:文章|短文|文本|段落|文档|材料|原文|上文|文段)",
        "(?:这|該|该|上述|以上|本)(?:篇|段)?(?:文章|短文|文本|段落|文档|文段|文字)",
        "(?:(?<![中英日法德俄古论])文|文章|短文|段落|原文)中(?:提到|提及|所述|描述|介绍|指出|说)",
    ),
    "zu": (r"\bngokwe(?:sigaba|ndima|ndaba|theksthi|mibhalo)\b",),
}

# A model's own voice, at the start of a reply.
AI_VOICE = (
    r"(?:as|being) an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    r"i(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b",
    r"kama (?:ai\b|akili (?:bandia|mnemba)|(?:modeli|mfano|muundo) (?:ya|wa) lugha)",
    r"a matsayi?na na (?:ai\b|samfurin harshe|na'urar)",
    r"como (?:(?:una? )?(?:ia|inteligencia artificial)\b|(?:un )?modelo de (?:lenguaje|linguagem))",
    r"en tant (?:qu'(?:ia|intelligence)\b|que modele)",
    r"как (?:языковая модель|искусственныи интеллект|ии\b)",
    r"(?:एक|मैं एक) (?:एआई|ai|भाषा मॉडल|कृत्रिम)",
    r"(?:একটি|একজন) (?:এআই|ai|ভাষা মডেল|কৃত্রিম)",
    r"(?:作为|作為|我是)(?:一个|一個|一名)?(?:ai|人工智能|大?型?语言模型|語言模型)",
    r"ในฐานะ(?:ที่เป็น)?\s?(?:ai|เอไอ|โมเดลภาษา|ปัญญาประดิษฐ์)",
    r"(?:بصفتي|باعتباري|كوني|أنا) (?:نموذج|ذكاء|مساعد)|كنموذج لغ",
    r"እንደ (?:ሰው ሰራሽ|ai|ኤአይ|ቋንቋ ሞዴል)",
    r"gege bi (?:ai\b|awose ede|oye atowoda)",
)

# What a model says of itself after that; people too begin "As an AI company, we ...", and "Как
# искусственный интеллект меняет медицину" is a headline.
OWN_LIMITS = (
    r"\bi(?: can'?t| cannot| can not| won'?t| do not| don'?t| have no| lack)\b",
    r"\bi(?: am|'m) (?:not|unable)\b",
    r"\b(?:siwezi|sitaweza|sina|sijui)\b",
    r"\b(?:ba zan iya|bazan iya|ba ni da|bani da)\b",
    r"\bno (?:puedo|tengo|soy|me es posible)\b|\bnao (?:posso|consigo|tenho|sou)\b",
    r"\bje n(?:e\b|')",
    r"\bя не\b|у меня нет",
    "मैं [^।]{0,40}नहीं|मेरे पास|मेरी कोई",
    "আমি [^।]{0,40}(?:না|নই)|আমার কোন",
    "我(?:并|並|也)?(?:无|無|不|没|沒)",
    "(?:ผม|ฉัน|ดิฉัน)(?:จึง)?ไม่",
    "لا أستطيع|لا يمكنني|لا أقدر|لا أملك|لا أعرف|ليس لدي|لست",
    "አልችልም|አልቻልኩም|አይቻለኝም|የለኝም|አላውቅም",
    r"\b(?:mi|n|emi) (?:o|ko)\b",
)

# (apology, inability): together, in this order, at the start of a reply, they decline.
DECLINES: dict[str, tuple[str, str]] = {
    "am": ("ይቅርታ|አዝናለሁ", "አልችልም|አልቻልኩም|አይቻለኝም"),
    "ar": (
        "عذر[اً]+|آسف|أعتذر|معذرة|نعتذر|للأسف",
        "لا أستطيع|لا يمكنني|لا أقدر|(?:أنا|إنني|إني|أنني|لكني|لكنني) غير قادر",
    ),
    "bn": ("দুঃখিত|ক্ষমা করবেন|আমি দুঃখিত", "পারব না|পারছি না|পারি না|সম্ভব নয়|সম্ভব নয়|অক্ষম"),
    "en": (
        r"(?:i'?m |i am )?(?:very |so )?sorry\b|i apologi[sz]e",
        r"\bi(?: can'?t| cannot| can not|(?: am|'m) (?:unable|not able)| won't)\b",
    ),
    "es": (
        "lo siento|lo lamento|perdon|disculp|lamentablemente",
        r"\bno (?:puedo|me es posible)\b",
    ),
    "fr": (
        r"(?:je suis )?(?:vraiment )?desolee?|je m'excuse|je regrette|malheureusement",
        r"\bje ne (?:peux|puis|suis)\b",
    ),
    "ha": (
        r"(?:ka |ku |ki )?yi ha[kƙ]uri|ina ba da ha[kƙ]uri|yi mini",
        r"\b(?:ba zan iya|bazan iya)",
    ),
    "hi": (
        "मुझे (?:क्षमा|माफ़|माफ|खेद)|(?:क्षमा|माफ़|माफ) (?:कर|कीजि)|(?:क्षमा|माफ़ी|माफी) चाहत"
        "|खेद है,? (?:कि )?मैं",
        "नहीं (?:कर|दे|लिख|बना) (?:सक|पा)|असमर्थ|नहीं सकत",
    ),
    "id": ("maaf|mohon maaf", r"\bsaya tidak (?:bisa|dapat|mampu)\b"),
    "pt": ("desculpe|lamento|sinto muito|infelizmente", r"\bnao (?:posso|consigo)\b"),
    "ru": ("извините|простите|к сожалению|прошу прощения", r"\bя не (?:могу|в состоянии|умею)\b"),
    "so": ("waan ka xumahay|raali noqo", r"\bma (?:awoodo|kari karo|samayn karo)"),
    "sw": (
        "samahani|pole|naomba radhi|ninaomba radhi|kwa bahati mbaya",
        r"\b(?:siwezi|sitaweza)\b",
    ),
    "th": (
        "(?:ผม|ฉัน|ดิฉัน)?(?:ต้อง)?ขอ(?:อภัย|โทษ)|(?:ผม|ฉัน|ดิฉัน)(?:รู้สึก)?เสียใจ|เสียใจด้วย",
        "ไม่สามารถ|ไม่อาจ",
    ),
    "yo": (r"(?:e )?(?:jowo|joo|ma binu|dakun)|mo toro gafara", r"\b(?:mi|n|emi) (?:o|ko) le\b"),
    "zh": (
        "(?:很|非常|十分)?(?:抱歉|对不起|對不起)|不好意思|(?:很|非常|十分)?(?:遗憾|遺憾)的?是?，?(?=我)",
        "我(?:无法|不能|無法|没办法)|(?:无法|不能)(?:提供|回答|完成|生成|协助|帮)",
    ),
    "zu": ("ngiyaxolisa|uxolo", r"\b(?:angikwazi|ngeke ngikwazi|angeke)"),
}

# Declining without an apology; the object keeps "I cannot sleep" out.
FLAT_REFUSALS = (
    r"i(?: can'?t| cannot| can not| won'?t| will not|(?: am|'m) (?:unable|not able) to)"
    r" (?:(?:help|assist)(?: you)? with (?:that|this|your request)|fulfil|comply|"
    r"(?:provide|generate|write|create|produce|answer) (?:an?|any|the|that|this|such) )",
    r"siwezi (?:kusaidia|kutoa|kuandika|kujibu|kutunga|kuunda) (?:na |swali|ombi|hoja|maswali)",
    r"no puedo (?:ayudarte?|generar|proporcionar|crear|cumplir)\b",
    r"je ne peux pas (?:vous aider|t'aider|generer|fournir|repondre a cette)\b",
    r"я не могу (?:помочь (?:с|вам)|выполнить|предоставить|создать)",
    r"我(?:无法|不能)(?:提供|回答|完成|生成|协助|满足)",
    r"ba zan iya (?:taimakawa|rubuta|samar)",
)

# What pages say beside their text.
BOILERPLATE_PHRASES: dict[str, str] = {
    "am": "መብቱ በሕግ የተጠበቀ|ኩኪዎችን ይጠቀማል|እዚህ ጋር ይጫኑ|እዚህ ይጫኑ",
    "ar": "جميع الحقوق محفوظة|ملفات تعريف الارتباط|اضغط هنا|اشترك في النشرة|سياسة الخصوصية",
    "bn": "সর্বস্বত্ব সংরক্ষিত|এখানে ক্লিক করুন|কুকি ব্যবহার কর",
    "en": r"\ball rights reserved\b|\b(?:accept|uses?|enable) (?:all )?(?:cookies|javascript)\b"
    r"|\bclick here\b|\bprivacy policy\b|\bterms (?:of (?:use|service)|and conditions)\b"
    r"|\bsubscribe to our\b|\bskip to (?:main )?content\b",
    "es": "todos los derechos reservados|(?:acepta|aceptar|utiliza) (?:las )?cookies"
    "|haga clic aqui|politica de privacidad",
    "fr": "tous droits reserves|(?:accepter|utilise) (?:des |les )?cookies|cliquez ici"
    "|politique de confidentialite",
    "ha": "dukkan hakkoki an kiyaye|danna nan|manufar sirri",
    "hi": "सर्वाधिकार सुरक्षित|यहाँ क्लिक करें|यहां क्लिक करें|कुकीज़ का उपयोग|गोपनीयता नीति",
    "id": "hak cipta dilindungi|klik di sini|kebijakan privasi",
    "pt": "todos os direitos reservados|(?:aceitar|utiliza) (?:os )?cookies|clique aqui",
    "ru": "все права защищены|использует (?:фаилы )?cookie|нажмите здесь"
    "|политика конфиденциальности",
    "sw": "haki zote zimehifadhiwa|bofya hapa|sera ya faragha|hutumia vidakuzi|tumia vidakuzi",
    "th": "สงวนลิขสิทธิ์|คลิกที่นี่|นโยบายความเป็นส่วนตัว|ใช้คุกกี้",
    "zh": "版权所有|保留所有权利|点击这里|点击此处|隐私政策|使用cookie",
}

_INABILITY_WITHIN = 60  # characters between the apology and what cannot be done


LEAK = Phrases([*LEAKED_MARKS, *(p for talk in LEAKED_TALK.values() for p in talk)])
BOILERPLATE = Phrases(BOILERPLATE_PHRASES.values())


_REFUSALS = (
    *AI_VOICE,
    *FLAT_REFUSALS,
    *(
        rf"(?:{sorry}).{{0,{_INABILITY_WITHIN}}}?(?:{unable})"
        for sorry, unable in DECLINES.values()
    ),
)
REFUSAL = Phrases([rf"^[^\w]*(?:{'|'.join(_REFUSALS)})"])
# In place of a passage, which may be about models, and what they cannot do.
PASSAGE_REFUSAL = Openings(
    (
        ("|".join(AI_VOICE), "|".join(OWN_LIMITS)),
        ("|".join(FLAT_REFUSALS), ""),
        *DECLINES.values(),
    ),
    within=_INABILITY_WITHIN,
)

# The answer's JSON, where a text begins with it: a key that prompts ask for, or that models put in
# its place.
_KEYS = (
    *("query", "question", "document", "strategy", "passage", "positive", "negatives?"),
    *("text", "label", "ideas", "source", "translation"),
)
ANSWER = regex.compile(
    rf"""[^\w"'“]*(?:json\s*)?[{{\[]\s*["'“](?:{"|".join(_KEYS)})["'”]\s*:""", regex.IGNORECASE
)
