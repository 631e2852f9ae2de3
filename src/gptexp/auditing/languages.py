"""Tell the language of a text by its script and by the function words in it.

A simple method for a first look: sentences of prose in 40 languages. It leaves texts without function words
undetermined, and confuses languages that share most of them (Croatian and Bosnian, Malay and Indonesian).
"""

import re
from collections import Counter, defaultdict
from functools import cache
from importlib.resources import files

from babel import Locale

from gptexp.auditing.word_lists import load_yaml

UNDETERMINED = "undetermined"
MAX_CHARACTERS = 2000  # of a text that are read
MIN_WORDS = 2
WORD_VOTES = 1000  # of a function word, shared by the languages that have it; as many are needed
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = {  # ranges of characters
    "Latin": "A-Za-zÀ-ɏḀ-ỿ",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
    "Georgian": "\u10a0-\u10ff",
    "Armenian": "\u0530-\u058f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "kana": "\u3040-\u30ff",
    "Han": "\u3400-\u9fff",
}
_SCRIPT_PATTERNS = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}
# Scripts that tell the language alone; kana comes with Han.
_LANGUAGE_OF_SCRIPT = {
    "Greek": "el",
    "Hebrew": "he",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Thai": "th",
    "Georgian": "ka",
    "Armenian": "hy",
    "Hangul": "ko",
    "kana": "ja",
    "Han": "zh",
}
_LETTERS = {  # languages -> letters that few others have
    "de": "ß",
    "es eu": "ñ",
    "pt": "ã",
    "pt et": "õ",
    "da no": "øæ",
    "sv da no": "å",
    "pl": "łż",
    "cs": "řěů",
    "sk": "ľ",
    "hu": "őű",
    "tr": "ğış",
    "ro": "țș",
    "ro vi": "ă",
    "vi hr": "đ",
    "vi": "ạế",
    "lt": "ėų",
    "lv": "ļķ",
    "sq": "ë",
    "uk": "іїє",
    "ru": "ыэ",
    "sr": "јћђ",
    "bg ru": "ъ",
    "de tr hu et": "ü",
    "de sv fi et": "ä",
    "de sv fi hu tr et": "ö",
    "fr pt tr ca": "ç",
    "fr it ca": "è",
    "fr pt vi": "ê",
    "it ca": "ò",
    "it fr": "ù",
    "pl lt": "ąę",
    "cs sk hr sl lt lv et": "šž",
    "cs sk hr sl lt lv": "č",
    "fa ur": "پگ",
    "ur": "ٹے",
}
_LANGUAGES_OF_LETTER = {
    letter: languages.split() for languages, letters in _LETTERS.items() for letter in letters
}


def detect_language(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, or UNDETERMINED."""
    text = text[:MAX_CHARACTERS].lower()
    script = "Latin" if text.isascii() else _commonest_script(text)
    if script in _LANGUAGE_OF_SCRIPT:
        return _LANGUAGE_OF_SCRIPT[script]
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS:
        return UNDETERMINED
    votes: Counter[str] = Counter()
    languages_of_word = _languages_of_words()
    for word, times in Counter(words).items():
        if languages := languages_of_word.get(word):  # a word of many says little about each
            vote = times * int(WORD_VOTES / len(languages) ** 0.5)
            for language in languages:
                votes[language] += vote
    for letter in set(text) & _LANGUAGES_OF_LETTER.keys():
        languages = _LANGUAGES_OF_LETTER[letter]
        votes.update(dict.fromkeys(languages, WORD_VOTES // 2 // len(languages)))
    (language, most), (_, second) = (*votes.most_common(2), ("", 0), ("", 0))[:2]
    is_enough = most >= WORD_VOTES * min(0.7, max(0.5, len(words) / 8))
    return language if is_enough and 0 < most >= 1.2 * second else UNDETERMINED


def _commonest_script(text: str) -> str:
    """Return the script of most letters, or "" without letters; kana stand for Japanese, which mixes them with Han."""
    sizes = {name: len(pattern.findall(text)) for name, pattern in _SCRIPT_PATTERNS.items()}
    if sizes["kana"] * 10 >= sizes["Han"]:
        sizes["kana"] += sizes.pop("Han")
    script = max(sizes, key=lambda name: sizes[name])
    return script if sizes[script] else ""


def language_name(code: str) -> str:
    """Return the English name of a language."""
    return Locale("en").languages.get(code, code)


@cache
def stop_words() -> dict[str, list[str]]:
    """Return the function words of each language."""
    lists = load_yaml(files(__package__).joinpath("stop_words.yaml"))
    return {code: words.split() for code, words in lists.items()}


@cache
def _languages_of_words() -> dict[str, list[str]]:
    languages = defaultdict(list)
    for code, words in stop_words().items():
        for word in set(words):
            languages[word].append(code)
    return dict(languages)
