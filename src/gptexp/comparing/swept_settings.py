"""The settings that a sweep varies, and the importance of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gptexp.comparing.sweep_results import SweepRow
from gptexp.statistics.importance import Importance, explained_share

DEFAULT = "default"  # value of a config that does not name the setting


@dataclass(frozen=True)
class SweptSetting:
    """A setting and its value in each config."""

    key: str
    values: list[str]  # as typed

    @property
    def numbers(self) -> list[float] | None:
        """The values as numbers; None: one is none."""
        try:
            numbers = [float(value) for value in self.values]
        except ValueError:
            return None
        return numbers if all(map(math.isfinite, numbers)) else None

    def importance(self, outcomes: Sequence[float]) -> Importance:
        """Return the share of the variance of the configs' outcomes that the setting explains."""
        return explained_share(self.numbers or self.values, outcomes)


def swept_settings(rows: Sequence[SweepRow]) -> list[SweptSetting]:
    """Return the settings in which configs of a sweep differ, in the order in which they come."""
    words = [dict(_split(word) for word in row.overrides) for row in rows]
    keys = dict.fromkeys(key for config in words for key in config)
    settings = [SweptSetting(key, [each.get(key, DEFAULT) for each in words]) for key in keys]
    return [setting for setting in settings if len(set(setting.values)) > 1]


def _split(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key.lstrip("+"), value
