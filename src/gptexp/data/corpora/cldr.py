"""Phrases in two languages from Babel's CLDR tables: dates, times, money, measures, durations, lists of names.

Translations are exact by construction, unlimited and offline. Names of countries and languages come in lists of two or
three, so that the words of a held-out phrase occur in the training split.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import babel
from babel import Locale, UnknownLocaleError, dates, lists, numbers, units
from babel.localedata import locale_identifiers

from gptexp.config import schema
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError, nearest

CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "SEK", "PLN", "INR", "BRL", "CAD", "AUD", "KRW")
UNITS = (
    "length-kilometer",
    "length-meter",
    "length-centimeter",
    "length-mile",
    "mass-kilogram",
    "mass-gram",
    "volume-liter",
    "duration-hour",
    "duration-minute",
    "duration-day",
    "duration-week",
    "duration-year",
    "temperature-celsius",
    "speed-kilometer-per-hour",
    "digital-megabyte",
    "area-square-meter",
)
TERRITORIES = (
    "DE FR IT ES PT PL SE NO FI DK NL BE AT CH GB IE GR TR RU UA CZ HU RO BG US CA MX BR AR CL PE CO CN JP KR IN TH VN "
    "ID AU NZ EG MA ZA KE NG ET IL SA IR IQ"
).split()
LANGUAGES = "de fr it es pt pl sv nb fi da nl en el tr ru uk cs hu ro bg zh ja ko hi th vi id ar he fa sw".split()
Phrase = Callable[[Locale], str]


class Cldr(Corpus):
    supported_fields = (("source", "target"),)

    def __init__(self, config: schema.CldrConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config = config
        self.source, self.target = _locale("data.src", config.src), _locale("data.tgt", config.tgt)

    def describe(self) -> dict[str, Any]:
        return {
            "source": "Unicode CLDR",
            "babel": babel.__version__,
            "licence": "Unicode-3.0 (CLDR), BSD-3 (Babel)",
            "src": self.config.src,
            "tgt": self.config.tgt,
            "examples": self.config.examples,
        }

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random("cldr")
        seen: set[str] = set()
        tries = 0
        while len(seen) < self.config.examples:
            tries += 1
            if tries > 20 * self.config.examples:
                raise UserError(
                    f"data.examples={self.config.examples}: only {len(seen)} distinct phrases found; "
                    f"give fewer examples"
                )
            phrase = draw_phrase(rng)
            source = phrase(self.source)
            if source.lower() not in seen:  # a source has one translation, and is in one split
                seen.add(source.lower())
                yield Example({"source": source, "target": phrase(self.target)})


def draw_phrase(rng: random.Random, kinds: Sequence[int] = range(8)) -> Phrase:
    """Draw a phrase of one of these kinds: 0 is a date, 1 a date with a time, 2 a part of a date, 3 money, 4 a measure,
    5 a duration, 6 names of countries, 7 names of languages.
    """
    moment = datetime(1950, 1, 1) + timedelta(minutes=rng.randrange(60 * 24 * 365 * 100))
    amount = rng.choice(
        (rng.randrange(1, 100), rng.randrange(100, 10000), rng.randrange(1, 100000) / 100)
    )
    few = rng.randrange(1, 60)
    choice = kinds[rng.randrange(len(kinds))]
    if choice == 0:
        style = rng.choice(("full", "long", "medium"))
        return lambda locale: dates.format_date(moment, style, locale=locale)
    if choice == 1:
        return lambda locale: dates.format_datetime(moment, "medium", locale=locale)
    if choice == 2:
        skeleton = rng.choice(("yMMMM", "MMMMd", "yMMMEd", "MMMEd"))
        return lambda locale: dates.format_skeleton(skeleton, moment, locale=locale)
    if choice == 3:
        currency = rng.choice(CURRENCIES)
        return lambda locale: numbers.format_currency(
            amount, currency, format_type="name", locale=locale
        )
    if choice == 4:
        unit = rng.choice(UNITS)
        return lambda locale: units.format_unit(amount, unit, length="long", locale=locale)
    if choice == 5:
        delta = timedelta(
            **{rng.choice(("minutes", "hours", "days", "weeks")): few * rng.choice((1, -1))}
        )
        return partial(_format_delta, delta, rng.choice((True, False)))
    table, codes = ("territories", TERRITORIES) if choice == 6 else ("languages", LANGUAGES)
    names = rng.sample(codes, rng.choice((2, 3)))
    return lambda locale: lists.format_list(
        [getattr(locale, table).get(n, n) for n in names], locale=locale
    )


def _format_delta(delta: timedelta, direction: bool, locale: Locale) -> str:
    return dates.format_timedelta(delta, add_direction=direction, threshold=10, locale=locale)


def _locale(key: str, name: str) -> Locale:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        raise UserError(
            f"{key}={name}: Babel knows no such locale.{nearest(name, locale_identifiers())} "
            f"Examples: en, de, fr, ja, pt_BR"
        ) from None
