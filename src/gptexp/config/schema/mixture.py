"""Settings of a mixture of sources."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gptexp.config.registry import register, schemas
from gptexp.config.schema.data import DataConfig
from gptexp.errors import UserError, nearest
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config

EXAMPLE = "data.sources.web.kind=files data.sources.web.path=web.txt data.weights.web=1"


@register
@dataclass
class MixtureConfig(DataConfig):
    kind: str = "mixture"
    target = "gptexp.data.corpora.mixture:Mixture"
    sources: dict[str, Any] = setting(
        {},
        "settings of each source: data.sources.web.kind=files data.sources.web.path=web.txt; split, val_fraction and "
        "test_fraction of the mixture hold for sources that have none of their own",
    )
    weights: dict[str, float] = setting(
        {}, "share of each source in the sequences of training, in proportion to the others"
    )
    schedule: list[Any] = setting(
        [],
        "later weights: [{start: 0.8, weights: {web: 1, code: 2}}]; start is a fraction of the run, or from 1 on a "
        "number of sequences, and sources that are not named have weight 0",
    )

    @property
    def order_block(self) -> int | None:
        """The largest of the blocks of its sources: so far the loader reads ahead."""
        blocks = [source.order_block or 0 for source in self.source_configs().values()]
        return max(blocks, default=0) or None

    def resolve(self, config: "Config") -> None:
        """Complete the settings of each source as those of `data` are completed."""
        from gptexp.config.mixture_sources import resolve_source  # it imports this module

        own = {name: getattr(self, name) for name in ("split", "val_fraction", "test_fraction")}
        shared = {name: x for name, x in own.items() if x != getattr(DataConfig, name)}
        self.sources = {
            name: resolve_source(name, settings, shared, config)
            for name, settings in self.sources.items()
        }

    def check(self, config: "Config") -> None:
        super().check(config)
        if config.task.kind != "pretrain":
            raise UserError(
                f"data=mixture: mixes texts for task=pretrain; task={config.task.kind} takes one source, data=NAME"
            )
        if self.limit is not None:
            raise UserError(
                f"data.limit={self.limit}: a mixture has none; limit a source, data.sources.NAME.limit={self.limit}"
            )
        if vars(config.logger).get("log_data") == "store":
            raise UserError(
                "logger.log_data=store: the stores of a mixture are not logged; use logger.log_data=record"
            )
        if not self.sources:
            raise UserError(f"data.sources: names no source; type {EXAMPLE}")
        for name, source in self.source_configs().items():
            with explain_source(name):
                source.check(replace(config, data=source))
        self._check_weights("data.weights", self.weights)
        for name in self.sources:
            if name not in self.weights:
                raise UserError(f"data.weights: has no {name}; type data.weights.{name}=1")
        last = 0
        for entry in self.schedule:
            key = f"data.schedule: {entry}"
            if not isinstance(entry, dict) or entry.keys() != {"start", "weights"}:
                raise UserError(
                    f"{key}: must have start and weights: [{{start: 0.8, weights: {{{self._example()}}}}}]"
                )
            self._check_weights(key, entry["weights"])
            start = _count_sequences(entry["start"], config.num_sequences)
            if start is None or start <= last:
                raise UserError(
                    f"{key}: start must be a fraction of the run, above 0 and below 1, or a whole number of sequences, "
                    f"and above the start before it"
                )
            last = start

    def source_configs(self) -> dict[str, DataConfig]:
        """Return the settings of each source, which are complete."""
        from gptexp.config.mixture_sources import build_source

        return {name: build_source(settings) for name, settings in self.sources.items()}

    def phases(self, config: "Config") -> list[tuple[int, tuple[float, ...]]]:
        """Return the first sequence from which weights hold, and the weights, in the order of the sources."""
        starts = [_count_sequences(entry["start"], config.num_sequences) for entry in self.schedule]
        weights = [self.weights, *(entry["weights"] for entry in self.schedule)]
        return [
            (start or 0, tuple(float(own.get(name, 0)) for name in self.sources))
            for start, own in zip([0, *starts], weights, strict=True)
        ]

    def _example(self) -> str:
        return ", ".join(f"{name}: 1" for name in self.sources)

    def _check_weights(self, key: str, weights: Any) -> None:
        if not isinstance(weights, dict) or not weights:
            raise UserError(f"{key}: weights must be {{{self._example()}}}")
        for name, weight in weights.items():
            if name not in self.sources:
                raise UserError(
                    f"{key}: there is no source {name}.{nearest(str(name), self.sources)} "
                    f"Sources: {', '.join(self.sources)}"
                )
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not is_number or weight < 0 or not math.isfinite(weight):
                raise UserError(
                    f"{key}: the weight of {name} is {weight}; it must be at least 0, and finite"
                )
        if not sum(weights.values()):
            raise UserError(f"{key}: a weight must be above 0")


@contextmanager
def explain_source(name: str) -> Iterator[None]:
    """Let errors of the block name the settings of a source as they are typed.

    Raises:
        UserError: the block has raised one.
    """
    try:
        yield
    except UserError as error:
        names = {item.name for schema in schemas("data").values() for item in fields(schema)}
        setting_of_source = rf"(?<![\w/.-])data\.(?=({'|'.join(names)})\b)"
        typed = re.sub(setting_of_source, f"data.sources.{name}.", str(error))
        raise UserError(typed if typed != str(error) else f"data.sources.{name}: {error}") from None


def _count_sequences(start: Any, total: int) -> int | None:
    """Return the number of sequences of a start in the schedule; None: it is no start."""
    match start:
        case float() if 0 < start < 1:
            return round(start * total)
        case int() if start >= 1 and not isinstance(start, bool):
            return start
    return None
