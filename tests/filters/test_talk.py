"""Passages that a model wrote in place of what it was asked for, and genuine ones that come near."""

import pytest

from sdg.filters import FILTERS, candidates, fit_for_rows
from sdg.schema import Pair, to_table
from tests.rows import bundled_seeds, make_pair

TEXT = bundled_seeds("sw")[0].text
DECLINED = (
    "As an AI language model, I cannot write about this.",
    "\u201cAs an AI developed to help, I don\u2019t have opinions.",
    "I'm an AI, and I am not able to do that.",
    "I\u2019m sorry, but I can\u2019t help with that.",
    "I cannot provide a passage about this.",
    "Samahani, siwezi kusaidia na ombi hili.",
    "Kama modeli ya lugha, sina uwezo huo.",
    "Yi haƙuri, ba zan iya rubuta wannan ba.",
    "ይቅርታ፣ ይህን ጥያቄ መመለስ አልችልም።",
    "እንደ ቋንቋ ሞዴል ይህን ማድረግ አልችልም።",
    "عذرًا، لا أستطيع مساعدتك في هذا الطلب",
    "بصفتي نموذجًا لغويًا، لا يمكنني ذلك",
    "क्षमा करें, मैं इसमें मदद नहीं कर सकता",
    "मुझे खेद है, मैं यह नहीं लिख सकता",
    "एक एआई भाषा मॉडल के रूप में, मैं यह नहीं कर सकता",
    "माफ़ कीजिए, मैं यह नहीं कर पाऊँगा",
    "দুঃখিত, আমি এটি করতে পারব না",
    "একটি ভাষা মডেল হিসেবে আমি এটি লিখতে পারি না",
    "很抱歉，我无法完成这个请求",
    "很遗憾，我无法提供这段文字",
    "作为一个人工智能语言模型，我没有看法",
    "ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้",
    "ในฐานะที่เป็นโมเดลภาษา ฉันไม่สามารถให้คำแนะนำได้",
    "Извините, но я не могу выполнить эту просьбу",
    "Как языковая модель, я не имею мнения",
    "Lo siento, pero no puedo ayudar con eso",
    "Como modelo de lenguaje, no tengo opiniones.",
    "Je suis désolé, mais je ne peux pas vous aider",
    "En tant que modèle de langage, je n'ai pas d'avis",
    "Desculpe, não posso escrever isso.",
    "Maaf, saya tidak bisa membantu.",
    "Ngiyaxolisa, angikwazi ukusiza.",
)
ANSWERED = (
    '{"query": "maji"}',
    "{ 'query' : 'maji'}",
    '[{"query": "maji", "positive": "Maji"}]',
    '```json {"positive": "Maji"}',
    '{\n"document": "Maji"',
    '{"Text": "Maji", "label": "afya"}',
)
GENUINE = (
    "I can't sleep, she said, and I cannot think.",
    "As an artificial intelligence company, OpenAI cannot publish its models.",
    "As an AI researcher, I have worked on language for years.",
    "Unfortunately, the patient is unable to travel.",
    "Sorry seems to be the hardest word is a song.",
    "He wrote: As an AI language model, I cannot answer.",
    "Kama akili bandia inavyokua, kazi zinabadilika na wengi hawawezi kuzipata.",
    "Polepole ndio mwendo, na wengine hawawezi kuharakisha.",
    "Как искусственный интеллект меняет медицину: врач не может всё.",
    "К сожалению, врачи не могут помочь всем больным.",
    "एक एआई प्रणाली मनुष्य की तरह सोच नहीं सकती और नहीं कर सकती।",
    "खेद की बात है कि सरकार यह काम नहीं कर सकी।",
    "माफिया के विरुद्ध पुलिस कुछ नहीं कर सकी।",
    "একটি ভাষা মডেল শব্দের সম্ভাবনা শেখে, কিন্তু অর্থ বোঝে না।",
    "很遗憾，医院无法提供足够的床位。",
    "作为人工智能的一个分支，机器学习不能回答所有问题。",
    "للأسف، المريض غير قادر على السفر.",
    "كنموذج لغوي كبير، يتعلم النظام من النصوص.",
    "เสียใจและเหนื่อย เขาไม่สามารถเดินต่อไปได้",
    "Como inteligencia artificial se conoce un campo de la informática que no puede definirse.",
    "En tant que modèle de gouvernance, la ville ne peut pas tout faire.",
    "In this article the query is answered with JSON.",
    '{NS} "query": Además',
    '["maji", "chumvi"]',
    '{"mji": "Nairobi"}',
    '"Query" ni neno la Kiingereza.',
)


def found(name: str, row: Pair) -> str | None:
    """The reason that one filter gives."""
    (candidate,) = candidates(to_table([row], Pair), None)
    return FILTERS[name].check(candidate, FILTERS[name].config())


def with_passage(passage: str) -> list[Pair]:
    """Pairs that nobody's model wrote, with a passage as positive and among the negatives."""
    return [
        make_pair("maji safi ya kunywa", passage),
        make_pair("maji safi ya kunywa", TEXT, negatives=[TEXT[::-1], passage]),
    ]


@pytest.mark.parametrize("reply", DECLINED)
def test_a_passage_that_declines_is_a_refusal(reply: str) -> None:
    for passage in (reply, f"{reply} {TEXT}"):
        assert [found("refusal", row) for row in with_passage(passage)] == ["refusal"] * 2
        assert [found("prompt_leak", row) for row in with_passage(passage)] == [None] * 2
        assert fit_for_rows([TEXT, passage], ["sw"] * 2) == [True, False]


@pytest.mark.parametrize("reply", ANSWERED)
def test_a_passage_that_is_the_answers_json_is_a_leak(reply: str) -> None:
    for passage in (reply, f"{reply} {TEXT}"):
        assert [found("prompt_leak", row) for row in with_passage(passage)] == ["prompt_leak"] * 2
        assert fit_for_rows([TEXT, passage], ["sw"] * 2) == [True, False]


@pytest.mark.parametrize("text", GENUINE)
def test_genuine_passages_are_no_replies(text: str) -> None:
    for passage in (text, f"{text} {TEXT}"):
        for name in ("refusal", "prompt_leak"):
            assert [found(name, row) for row in with_passage(passage)] == [None] * 2
        assert fit_for_rows([passage], ["sw"]) == [True]


def test_a_passage_may_speak_of_itself() -> None:
    """As a query it would repeat the prompt."""
    passage = f"In this article, as the text above says, {TEXT}"
    assert [found("prompt_leak", row) for row in with_passage(passage)] == [None] * 2
