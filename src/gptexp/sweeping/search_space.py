"""The words of a sweep: settings with one value, swept settings with their values or ranges, and the seeds."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.override_parser.types import IntervalSweep, Override

from gptexp.config.grammar import as_typed, parse_override
from gptexp.config.keys import declarations
from gptexp.config.package_data import GROUPS
from gptexp.errors import UserError

SEED = "seed"


@dataclass(frozen=True)
class Choices:
    """The values of a swept setting, as words of a command."""

    values: tuple[str, ...]

    @property
    def size(self) -> float:
        return len(self.values)

    def value_at(self, position: float) -> str:
        """Return the value at a position in [0, 1)."""
        return self.values[int(position * len(self.values))]


@dataclass(frozen=True)
class Range:
    """The range of a swept setting, interval(LOW, HIGH), or tag(log, interval(LOW, HIGH)) on a logarithmic scale."""

    low: float
    high: float
    is_log: bool = False
    is_integer: bool = False

    @property
    def size(self) -> float:
        return self.high - self.low + 1 if self.is_integer else math.inf

    @property
    def values(self) -> tuple[str, str]:
        """Both ends."""
        return self.format(self.low), self.format(self.high)

    def value_at(self, position: float) -> str:
        """Return the value at a position in [0, 1)."""
        if self.is_log:
            value = self.low * (self.high / self.low) ** position
        else:
            value = self.low + (self.high - self.low) * position
        return self.format(value)

    def format(self, value: float) -> str:
        """Write a number of the range with three digits, which is what the job gets."""
        rounded = round(value) if self.is_integer else float(f"{value:.3g}")
        inside = min(max(rounded, self.low), self.high)
        if self.is_integer:
            return f"{inside:.0f}"
        return f"{inside:.3g}" if inside == rounded else repr(inside)  # an end, with all digits


Axis = Choices | Range


@dataclass
class SearchSpace:
    """Settings with one value, and those that are swept; keys are with the prefix that Hydra wants, such as ++."""

    fixed: dict[str, str] = field(default_factory=dict)
    axes: dict[str, Axis] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    @property
    def ranges(self) -> list[str]:
        return [key for key, axis in self.axes.items() if isinstance(axis, Range)]

    @property
    def size(self) -> float:
        """The number of configs; infinite where there is a range of fractions."""
        return math.prod(axis.size for axis in self.axes.values())

    def grid(self) -> list[list[str]]:
        """Return the words of every config, without the seed; of a range only both ends."""
        return [
            self.words(dict(zip(self.axes, values, strict=True)))
            for values in itertools.product(*(axis.values for axis in self.axes.values()))
        ]

    def words(self, values: dict[str, str]) -> list[str]:
        """Return the words of a config, in the order in which a person has typed the keys."""
        return [
            f"{key}={value}" if value else key for key, value in {**self.fixed, **values}.items()
        ]

    def differing(self, words: Sequence[str]) -> list[str]:
        """Return those words of a job that other jobs may not share."""
        keys = {*(key.lstrip("+") for key in self.axes), SEED}
        return [word for word in words if word.partition("=")[0] in keys]

    def values_of(self, words: Sequence[str]) -> dict[str, str]:
        """Return the values that the words of a job give to the swept settings."""
        pairs = dict(word.lstrip("+").partition("=")[::2] for word in words)
        return {key: pairs[key.lstrip("+")] for key in self.axes if key.lstrip("+") in pairs}

    def words_like(self, first: Sequence[str], words: Sequence[str]) -> list[str]:
        """Return the words of another job with the swept values and the seed of these words."""
        values = self.values_of(words)
        swept = {key.lstrip("+"): f"{key}={value}" for key, value in values.items()}
        keys = [word.lstrip("+").partition("=")[0] for word in first]
        pairs = [(key, word) for key, word in zip(keys, first, strict=True) if key != SEED]
        return with_seed([swept.get(key, word) for key, word in pairs], seed_of(words))

    def values_and_seed(self, words: Sequence[str]) -> tuple[tuple[str, ...], int | None]:
        """Return what a job is known by: its swept values, and its seed, which is the first where it names none."""
        seed = seed_of(words)
        if seed is None and self.seeds:
            seed = self.seeds[0]
        return tuple(self.values_of(words).values()), seed


def read_space(words: Sequence[str]) -> SearchSpace:
    """Read the words of a sweep; of two words for one key, the last one counts.

    Raises:
        UserError: a word is a range from which nothing can be drawn, or no list of values.
    """
    space = SearchSpace()
    for word in words:
        override = parse_override(word)
        assert override is not None, word  # read_overrides has checked it
        key = override.get_key_element()
        space.fixed.pop(key, None)
        space.axes.pop(key, None)
        if override.is_sweep_override() and isinstance(override.value(), IntervalSweep):
            space.axes[key] = _read_range(override)
            continue
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise UserError(f"{as_typed(word)}: is not a list of values; type {key}=1,2,3")
        if override.is_sweep_override():
            values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        else:
            values = (override.get_value_element_as_str() if "=" in word else "",)
        if key == SEED:
            space.seeds = tuple(map(int, values))
        elif override.is_sweep_override():
            space.axes[key] = Choices(values)
        else:
            space.fixed[key] = values[0]
    return space


def with_seed(words: list[str], seed: int | None) -> list[str]:
    return words if seed is None else [*words, f"{SEED}={seed}"]


def seed_of(words: Sequence[str]) -> int | None:
    """Return the seed among the words of a job."""
    seeds = [int(word.partition("=")[2]) for word in words if word.startswith(f"{SEED}=")]
    return seeds[-1] if seeds else None


def _read_range(override: Override) -> Range:
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    word, key = str(override.input_line), override.key_or_group
    low, high = float(interval.start or 0), float(interval.end or 0)
    is_log = "log" in interval.tags
    unknown = interval.tags - {"log"}
    if unknown:
        raise UserError(
            f"{word}: the tag {min(unknown)} is not known; type {key}=tag(log,interval({low:g},{high:g})) "
            f"for a logarithmic scale"
        )
    if key == SEED:
        raise UserError(f"{word}: seeds are no range to search in; type {SEED}=1,2,3")
    if not low < high or (is_log and low <= 0):
        positive = "positive and " if is_log else ""
        raise UserError(f"{word}: the first number must be {positive}lower than the second")
    kinds = {str(item.type) for item in declarations(key)}
    takes_fractions = any("float" in kind for kind in kinds)
    is_integer = not takes_fractions and any("int" in kind for kind in kinds)
    is_number = takes_fractions or is_integer
    if key in GROUPS or (kinds and not is_number):
        raise UserError(f"{word}: the setting is no number; type {key}=VALUE,VALUE")
    return Range(low, high, is_log, is_integer)
