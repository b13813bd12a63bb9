"""What language models answer in six languages: good queries, and every way of going wrong.

Ten passages a language, one for each of `KINDS`, the first ones of the bundled corpus (Yoruba's
are here: it has none). `reply_to` is what a model says to the prompt made from one of them.
"""

import json

from tests.rows import bundled_seeds

# What the reply to passage number i of each language is.
KINDS = (
    "good",
    "cut",
    "empty",
    "fence",
    "chatter",
    "wrong_schema",
    "refusal",
    "wrong_language",
    "loop",
    "reasoning",
)
ACCEPTED = ("good", "fence", "chatter", "reasoning")
# Why the others are dropped; a query in the wrong language by the filters.
UNREAD = {
    "cut": "reply_cut",
    "empty": "empty_reply",
    "wrong_schema": "wrong_schema",
    "refusal": "refusal",
    "loop": "repetition",
}
LATIN = ("sw", "ha", "yo")  # where the language gives English away, elsewhere its script
REPAIRED = ("fence", "chatter", "reasoning")

YORUBA = (
    "Adágún Victoria ni adágún tó tóbi jùlọ ní ilẹ̀ Áfíríkà. Omi rẹ̀ kan orílẹ̀-èdè Kẹ́ńyà, Ùgáńdà àti "
    "Tànsáníà, ọ̀pọ̀lọpọ̀ àwọn apẹja sì ń gbé ní etí rẹ̀.",
    "Iṣu jẹ́ oúnjẹ pàtàkì fún àwọn Yorùbá. Àwọn àgbẹ̀ máa ń gbìn ín nígbà tí òjò bá bẹ̀rẹ̀, wọ́n á sì "
    "wà á lẹ́yìn oṣù mẹ́jọ. Wọ́n máa ń fi gún iyán tàbí ṣe àmàlà.",
    "Odò Ọya ń ṣàn láti orí òkè ní Gíní, ó sì gba inú Màlì àti Níjẹ̀r kọjá kó tó wọ Nàìjíríà. Ibẹ̀ ni "
    "ó ti pàdé odò Bẹ́núé ní ìlú Lọ́kọ́ja.",
    "Àrùn ibà ń wá láti inú ìjẹ ẹ̀fọn abo. Kí ènìyàn má baà ní àrùn yìí, ó yẹ kó sùn lábẹ́ àwọ̀n tí a "
    "fi oògùn sí, kó sì da omi tó dúró sí àyíká ilé nù.",
    "Aṣọ òkè jẹ́ aṣọ tí àwọn ahunṣọ ní Ìṣẹ́yìn ń fi ọwọ́ hun. Wọ́n máa ń lo òwú àti ṣẹ́dà, àwọn ènìyàn sì "
    "máa ń wọ̀ ọ́ níbi ìgbéyàwó àti oyè jíjẹ.",
    "Erin ni ẹranko tó tóbi jùlọ lórí ilẹ̀. Ọwọ́ ìjà rẹ̀ gùn, ó sì máa ń fi mu omi, kó ewé sí ẹnu, ó "
    "tún ń fi kí àwọn ọmọ rẹ̀.",
    "Òṣùpá kò ní ìmọ́lẹ̀ tirẹ̀. Ìmọ́lẹ̀ oòrùn tó ń tàn sí i ni a ń rí láti ayé, ìdí nìyí tí ìrísí rẹ̀ fi "
    "ń yí padà láti ọjọ́ dé ọjọ́.",
    "Kòkó ni irúgbìn tí àwọn àgbẹ̀ ní Oǹdó ń tà sí òkè òkun. Wọ́n á bu èso rẹ̀, wọ́n á sá a sínú oòrùn, "
    "kí wọ́n tó kó o lọ sí ilé iṣẹ́ tí wọ́n ti ń ṣe ṣokoléètì.",
    "Ìlù dùndún máa ń sọ̀rọ̀ bí ènìyàn nítorí pé ohùn rẹ̀ ń lọ sókè sódò bí èdè Yorùbá. Onílù á fún "
    "awọ rẹ̀ mọ́ra kí ohùn náà tó yí padà.",
    "Oyin máa ń gbé inú afárá tí wọ́n fi ìda kọ́. Àwọn òṣìṣẹ́ inú wọn ń fò lọ sí ara òdòdó láti mu omi "
    "dídùn rẹ̀ wá, èyí tí ó máa ń di oyin nígbẹ̀yìn.",
)
# By language: the queries that a good answer has, for the passages of `ACCEPTED` and of "cut".
QUERIES = {
    "sw": {
        "good": "nchi gani zinapakana na ziwa Nyanza",
        "cut": "mlima gani mrefu uko karibu na ziwa refu la magharibi",
        "fence": "chakula kikuu kinachovumilia ukame kilitoka wapi",
        "chatter": "nafaka inayofaa maeneo yenye mvua kidogo",
        "reasoning": "mti mnene unaohifadhi maji kwenye shina",
    },
    "ha": {
        "good": "wane irin abinci ne ake nomawa inda ruwan sama yake kaɗan",
        "cut": "yaushe ne manoma suke fara shukar hatsi",
        "fence": "ina ne babban kogin Afirka ta Yamma yake farawa",
        "chatter": "me ya sa muke ganin wata yana canzawa kowane dare",
        "reasoning": "ƙasashen da suke kewaye da babban tafkin hamada",
    },
    "hi": {
        "good": "रबी में अनाज बोने का सही समय कब होता है",
        "cut": "खेत में पानी भरकर कौन सी फसल उगाई जाती है",
        "fence": "किन फसलों से ज़मीन की उर्वरता बढ़ती है",
        "chatter": "भागीरथी और अलकनंदा कहाँ मिलती हैं",
        "reasoning": "लंबे जबड़े वाला मगरमच्छ का रिश्तेदार कहाँ रहता है",
    },
    "ar": {
        "good": "كيف تتم عملية تلقيح أشجار البلح يدويا",
        "cut": "متى يبدأ موسم عصر الزيتون",
        "fence": "من أين ينبع النهر الكبير الذي يعبر سوريا والعراق",
        "chatter": "أي نهر يمر بالعاصمة العراقية وهو أقصر من جاره",
        "reasoning": "كيف كان الناس يبردون منازلهم قديما في الخليج",
    },
    "zh": {
        "good": "为什么种稻子要先育苗再移到大田",
        "cut": "小麦在冬天为什么不会冻死",
        "fence": "哪条河的河床比两边的城市还高",
        "chatter": "亚洲最长的河流分成哪几个部分",
        "reasoning": "古代四川怎样不修大坝就能灌溉和防洪",
    },
    "yo": {
        "good": "orílẹ̀-èdè mélòó ni ó yí adágún ńlá náà ká",
        "cut": "ìgbà wo ni àwọn àgbẹ̀ máa ń gbin iṣu",
        "fence": "báwo ni a ṣe lè dènà àìsàn tí ẹ̀fọn ń fà",
        "chatter": "irú aṣọ wo ni a máa ń wọ̀ síbi ìgbéyàwó",
        "reasoning": "báwo ni àwọn kòkòrò ṣe ń rí ohun dídùn láti ara òdòdó",
    },
}
CHATTER = {
    "sw": ("Bila shaka! Hili hapa swali:", "Niambie kama ungependa lingine."),
    "ha": ("To, ga tambayar da na rubuta:", "Ina fatan za ta yi amfani."),
    "hi": ("ज़रूर, यह रहा आपका प्रश्न:", "क्या आपको कुछ और चाहिए?"),
    "ar": ("بالتأكيد، إليك السؤال المطلوب:", "أخبرني إن أردت سؤالا آخر."),
    "zh": ("好的，这是您要的查询：", "如果需要更多，请告诉我。"),
    "yo": ("Ó dára, ìbéèrè náà nìyí:", "Mo nírètí pé yóò wúlò."),
}
REFUSALS = {
    "sw": "Samahani, siwezi kuandika swali hilo.",
    "ha": "Yi haƙuri, ba zan iya rubuta wannan ba.",
    "hi": "क्षमा करें, मैं यह नहीं लिख सकता।",
    "ar": "عذرًا، لا أستطيع كتابة هذا السؤال.",
    "zh": "很抱歉，我无法生成这个查询。",
    "yo": "Ẹ jọ̀wọ́, mi ò lè kọ ìbéèrè yìí.",
}
THOUGHTS = {
    "sw": "Kifungu kinazungumzia mti. Nitauliza kuhusu shina lake.",
    "ha": "Ana son gajeriyar tambaya. Bari in duba tafkin.",
    "hi": "यह घड़ियाल के बारे में है। छोटा प्रश्न ठीक रहेगा।",
    "ar": "الموضوع عن البيوت القديمة، وسأسأل عن التبريد.",
    "zh": "这段讲的是水利工程，可以问怎样分水。",
    "yo": "Ọ̀rọ̀ yìí dá lórí oyin. Màá béèrè nípa òdòdó.",
}
LOOPS = {
    "sw": "maisha ya fisi ",
    "ha": "farin Nilu da ",
    "hi": "सूँस और सूँस ",
    "ar": "الفنك في الصحراء ",
    "zh": "会打洞的鳄鱼",
    "yo": "ìlù dùndún àti ",
}
KEYS = {"sw": "swali", "ha": "tambaya", "hi": "प्रश्न", "ar": "سؤال", "zh": "查询", "yo": "ìbéèrè"}
ENGLISH = "where can somebody learn how this has been done over the years"


def passages() -> dict[str, list[tuple[str, str]]]:
    """Title and text of the passages, by language."""
    bundled = {lang: bundled_seeds(lang)[: len(KINDS)] for lang in QUERIES if lang != "yo"}
    found = {lang: [(seed.title, seed.text) for seed in seeds] for lang, seeds in bundled.items()}
    return {**found, "yo": [("", text) for text in YORUBA]}


def reply_to(lang: str, kind: str) -> tuple[str, str]:
    """What a model says, and its finish reason."""
    answer = json.dumps({"query": QUERIES[lang].get(kind, "")}, ensure_ascii=False)
    before, after = CHATTER[lang]
    text = {
        "good": answer,
        "cut": json.dumps({"query": QUERIES[lang]["cut"]}, ensure_ascii=False)[:-8],
        "empty": "",
        "fence": f"```json\n{answer}\n```",
        "chatter": f"{before}\n\n{answer}\n\n{after}",
        "wrong_schema": json.dumps({KEYS[lang]: QUERIES[lang]["good"]}, ensure_ascii=False),
        "refusal": REFUSALS[lang],
        "wrong_language": json.dumps({"query": ENGLISH}),
        "loop": '{"query": "' + LOOPS[lang] * 40,
        "reasoning": f"<think>\n{THOUGHTS[lang]}\n</think>\n{answer}",
    }[kind]
    return text, "length" if kind in ("cut", "loop") else "stop"
