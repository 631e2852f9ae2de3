"""Numbers, dates and times, spoken by espeak-ng: what speech synthesis needs to show that it learns.

The library and its voices come in the wheel espeakng-loader. Its sound is not the same bytes twice, so it is kept.
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
SYNCHRONOUS, UTF8 = 2, 1  # of espeak_Initialize's output, and of espeak_Synth's flags


class Spoken(Corpus):
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
        kept = self.cache / "spoken" / f"{metadata.version('espeakng-loader')}.sqlite"
        for _ in range(100 * self.config.examples):
            text = SAY[self.config.content](rng)
            if text in seen:
                continue
            voice = voices[len(seen) % len(voices)]
            seen.add(text)
            yield Example({"voice": voice, "text": text}, media=partial(_said, kept, voice, text))
            if len(seen) == self.config.examples:
                return
        raise UserError(
            f"data.examples={self.config.examples}: there are only {len(seen)} different texts"
        )


def _number(rng: random.Random) -> str:
    from num2words import num2words

    below = rng.choice((1000, 10_000, 100_000))
    return num2words(rng.randrange(below)).replace(",", "").replace("-", " ")


def _date(rng: random.Random) -> str:
    from num2words import num2words

    if rng.random() < 0.5:
        day = num2words(rng.randrange(1, 29), to="ordinal").replace("-", " ")
        year = num2words(rng.randrange(1901, 2030), to="year").replace("-", " ")
        return f"the {day} of {rng.choice(MONTHS)} {year}".lower()
    hour, minute = num2words(rng.randrange(1, 13)), rng.randrange(1, 60)
    said = num2words(minute).replace("-", " ")
    return f"{said} minutes past {hour}" if minute > 1 else f"one minute past {hour}"


SAY: dict[str, Callable[[random.Random], str]] = {"numbers": _number, "dates": _date}


def _said(kept: Path, voice: str, text: str) -> NDArray[np.int16]:
    """A text as it was spoken the first time."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(kept, timeout=60)) as table, table:
        table.execute(
            "create table if not exists said (voice, text, sound, primary key (voice, text))"
        )
        query = "select sound from said where voice = ? and text = ?"
        if not (found := table.execute(query, (voice, text)).fetchone()):
            sound = _Espeak.get().say(voice, text).tobytes()
            table.execute("insert or ignore into said values (?, ?, ?)", (voice, text, sound))
            found = table.execute(query, (voice, text)).fetchone()
        return np.frombuffer(found[0], np.int16)


class _Espeak:
    """espeak-ng through its C interface (speak_lib.h). There is one in a process: the library has one state."""

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

        self.receive = receive  # held: the library keeps no reference of Python's
        self.library.espeak_SetSynthCallback(receive)

    def say(self, voice: str, text: str) -> NDArray[np.int16]:
        """Samples [N], as all our audio is.

        Raises:
            UserError: there is no such voice.
        """
        import espeakng_loader
        import soxr

        variant = voice.partition("+")[2]  # which the library passes over where it does not know it
        missing = (
            variant
            and not (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant).is_file()
        )
        if missing or self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(
                f"data.voices: espeak-ng has no voice '{voice}'. Examples: en-us, en-gb, de, fr+f2, en+m3"
            )
        self.parts.clear()
        spoken = text.encode()
        self.library.espeak_Synth(
            spoken, ctypes.c_size_t(len(spoken) + 1), 0, 0, 0, UTF8, None, None
        )
        self.library.espeak_Synchronize()
        samples = np.concatenate(self.parts).astype(np.float32) / 32768
        return Audio.read(soxr.resample(samples, self.rate, RATE)).samples
