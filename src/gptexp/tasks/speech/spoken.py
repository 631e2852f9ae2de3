"""Numbers, dates and times, spoken by espeak-ng: generated data to try out speech synthesis.

The library and its voices come in the wheel espeakng-loader. Its audio is not reproducible to the byte, so the cache
keeps it.
"""

import ctypes
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError
from gptexp.tasks.speech.audio import RATE, Audio
from gptexp.tasks.speech.settings import SpokenConfig

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
SYNCHRONOUS = 2  # output mode of espeak_Initialize
UTF8 = 1  # flag of espeak_Synth


class Spoken(Corpus):
    medium = "audio"
    supported_fields = (("voice", "text"),)

    def __init__(self, config: SpokenConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.cache = config, cache

    def describe(self) -> dict[str, Any]:
        return {
            "source": "espeak-ng",
            "espeakng-loader": metadata.version("espeakng-loader"),
            "licence": "GPL-3.0 (espeak-ng); what it says is free",
            "say": self.config.content,
            "voices": list(self.config.voices),
            "examples": self.config.examples,
        }

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random(f"spoken {self.config.content}")
        voices = self.config.voices
        seen: set[str] = set()
        file = self.cache / "spoken" / f"{metadata.version('espeakng-loader')}.sqlite"
        for _ in range(100 * self.config.examples):
            text = TEXTS[self.config.content](rng)
            if text in seen:
                continue
            voice = voices[len(seen) % len(voices)]
            seen.add(text)
            speak = partial(_speak_cached, file, voice, text)
            yield Example({"voice": voice, "text": text}, media=speak)
            if len(seen) == self.config.examples:
                return
        raise UserError(
            f"data.examples={self.config.examples}: there are only {len(seen)} different texts; give fewer examples"
        )


def _number(rng: random.Random) -> str:
    from num2words import num2words

    limit = rng.choice((1000, 10_000, 100_000))
    return num2words(rng.randrange(limit)).replace(",", "").replace("-", " ")


def _date(rng: random.Random) -> str:
    from num2words import num2words

    if rng.random() < 0.5:
        day = num2words(rng.randrange(1, 29), to="ordinal").replace("-", " ")
        year = num2words(rng.randrange(1901, 2030), to="year").replace("-", " ")
        return f"the {day} of {rng.choice(MONTHS)} {year}".lower()
    hour, minute = num2words(rng.randrange(1, 13)), rng.randrange(1, 60)
    minutes = num2words(minute).replace("-", " ")
    return f"{minutes} minutes past {hour}" if minute > 1 else f"one minute past {hour}"


TEXTS: dict[str, Callable[[random.Random], str]] = {"numbers": _number, "dates": _date}


def _speak_cached(file: Path, voice: str, text: str) -> NDArray[np.int16]:
    """Return a text as it was spoken the first time; the file is an SQLite database."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=60)) as database, database:
        database.execute(
            "create table if not exists said (voice, text, sound, primary key (voice, text))"
        )
        query = "select sound from said where voice = ? and text = ?"
        row = database.execute(query, (voice, text)).fetchone()
        if row is None:
            samples = _Espeak.get().speak(voice, text).tobytes()
            database.execute("insert or ignore into said values (?, ?, ?)", (voice, text, samples))
            row = database.execute(query, (voice, text)).fetchone()
        return np.frombuffer(row[0], np.int16)


class _Espeak:
    """espeak-ng by its C interface (speak_lib.h). A process has one instance, because the library has global state."""

    instance: "_Espeak | None" = None

    @classmethod
    def get(cls) -> "_Espeak":
        cls.instance = cls.instance or cls()
        return cls.instance

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)  # Hz
        if self.rate <= 0:
            raise UserError("espeak-ng does not start: reinstall the package espeakng-loader")
        self.parts: list[NDArray[np.int16]] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )

        @kind
        def receive(samples: Any, count: int, _: Any) -> int:
            if samples and count > 0:
                self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self.receive = receive  # a reference, because the library keeps none
        self.library.espeak_SetSynthCallback(receive)

    def speak(self, voice: str, text: str) -> NDArray[np.int16]:
        """Return the samples [N] of a spoken text, as Audio has them.

        Raises:
            UserError: there is no such voice.
        """
        import espeakng_loader
        import soxr

        variant = voice.partition("+")[2]  # the library ignores a variant that it does not know
        variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
        is_unknown = variant and not (variants / variant).is_file()
        if is_unknown or self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(
                f"data.voices: espeak-ng has no voice '{voice}'. Examples: en-us, en-gb, de, fr+f2, en+m3"
            )
        self.parts.clear()
        data = text.encode()
        self.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        samples = np.concatenate(self.parts).astype(np.float32) / 32768
        return Audio.read(soxr.resample(samples, self.rate, RATE)).samples
