import pytest

from gptexp.auditing.languages import UNDETERMINED, detect_language, language_name, stop_words

SENTENCES = {
    "en": "The man walks on the street with his dog, and it rains.",
    "de": "Der Mann geht mit seinem Hund auf die Straße und es regnet.",
    "es": "El hombre camina por la calle con su perro",
    "fr": "L'homme marche dans la rue avec son chien",
    "pt": "O homem caminha pela rua com o seu cachorro",
    "it": "L'uomo cammina per la strada con il suo cane",
    "nl": "De man loopt met zijn hond op straat",
    "pl": "Mężczyzna idzie ulicą z psem i nie wie",
    "ru": "Мужчина идёт по улице и не знает, что это его собака",
    "uk": "Чоловік іде вулицею зі своїм собакою",
    "ja": "男は犬と通りを歩いている",
    "zh": "男人带着狗走在街上",
    "ko": "남자가 개와 함께 거리를 걷고 있다",
    "ar": "الرجل يمشي في الشارع مع كلبه",
    "el": "Ο άντρας περπατά στο δρόμο με το σκύλο",
    "tr": "Adam köpeğiyle sokakta yürüyor ve çok mutlu",
    "vi": "Người đàn ông đi bộ trên đường với con chó của anh ấy",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_the_language_of_a_sentence(code):
    assert detect_language(SENTENCES[code]) == code


@pytest.mark.parametrize("text", ["", "12 34", "x = 3", "hello", "y", "!?", "Zürich Genève"])
def test_too_little_to_tell(text):
    assert detect_language(text) == UNDETERMINED


def test_words_that_are_booleans_to_yaml_are_words():
    assert {"no"} <= stop_words().keys()
    assert {"on", "no"} <= {*stop_words()["en"], *stop_words()["es"]}
    assert language_name("no") == "Norwegian"
