"""Read the records of one run for comparisons, each record once."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from gptexp.comparing.settings_difference import flatten
from gptexp.errors import UserError
from gptexp.files import short_hash
from gptexp.runs.record_types import check_score_row
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import is_companion

SPLITS = {"test/unseen": "unseen", "test/unsupported": "unsupported", "test/all": "all"}


class RunRecords:
    """The records of a run folder; a record that is missing is empty."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.name = folder, folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The nested settings.

        Raises:
            UserError: config.yaml cannot be read.
        """
        return self.folder.config_values()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by dotted key."""
        return flatten(self.config)

    @cached_property
    def result(self) -> dict[str, Any]:
        return self.folder.result()

    @cached_property
    def data(self) -> dict[str, Any]:
        return self.folder.read_record("data")

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self.folder.read_record("environment")

    @cached_property
    def metric_rows(self) -> list[dict[str, Any]]:
        return self.folder.metrics()

    @cached_property
    def score_rows(self) -> list[dict[str, Any]]:
        """The rows of scores.jsonl.

        Raises:
            UserError: a row is none of a run.
        """
        rows = self.folder.scores()
        for number, row in enumerate(rows, 1):
            try:
                check_score_row(row)
            except ValueError as error:
                raise UserError(
                    f"{self.folder.scores_file}: line {number} is damaged ({error}). Delete the file: the run is "
                    f"then compared without its single examples"
                ) from None
        return rows

    @property
    def seed(self) -> Any:
        return self.settings.get("seed")

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the finished run; {} before."""
        return self.result.get("metrics", {})

    @property
    def primary_metric(self) -> str:
        return self.result.get("primary_metric", "")

    def metric_names(self) -> list[str]:
        """Return the names of the metrics, without the baselines and bounds that belong to them."""
        return [name for name in self.metrics if not is_companion(name)]

    def held_out_texts(self, split: str) -> str | None:
        """Return a hash of the texts of a held-out split; None where the run does not record it."""
        return self._hash_files(split, "jsonl")

    def held_out_tokens(self, split: str) -> str | None:
        """Return a hash of the tokens of a held-out split; None where the run does not record it."""
        return self._hash_files(split, "tokens", "index")

    def _hash_files(self, split: str, *kinds: str) -> str | None:
        files = self.data.get("files", {})
        digests = [files.get(f"{part}.{kind}") for part in parts_of(split) for kind in kinds]
        return short_hash(" ".join(digests)) if all(digests) else None

    def scored_rows(self, split: str, unit: str, score: str) -> dict[str, dict[str, Any]]:
        """Return the rows of scores.jsonl of a split and unit that have this score, by id.

        The rows of `all` are those of its parts; there are none where one of them has none.
        """
        rows = self._rows(split, unit)
        return {id: row for id, row in rows.items() if row.get("scores", {}).get(score) is not None}

    def example_ids(self, split: str) -> set[str]:
        """Return the ids of the scored examples of a split."""
        return set(self._rows(split, "example"))

    def count_targets(self, split: str) -> int:
        """Return the number of predicted tokens of the batches whose losses are kept; 0 where none are."""
        return sum(row.get("targets") or 0 for row in self._rows(split, "batch").values())

    def _rows(self, split: str, unit: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a split and unit by id; of a split with several parts, by part and id."""
        parts = {name: dict[str, dict[str, Any]]() for name in parts_of(split)}
        for row in self.score_rows:
            if row.get("unit") == unit and row.get("split") in parts:
                parts[row["split"]][row["id"]] = row
        if not all(parts.values()):
            return {}
        if len(parts) == 1:
            return parts[split]
        return {f"{name}/{id}": row for name, rows in parts.items() for id, row in rows.items()}


def split_name(metric: str) -> tuple[str, str]:
    """Return what stands before the last slash of a metric's name, and what stands behind it."""
    prefix, _, leaf = metric.rpartition("/")
    return prefix, leaf


def split_of(metric: str) -> str:
    """Return the held-out split that a metric is computed on: "unseen" for "test/unseen/loss"."""
    prefix = split_name(metric)[0]
    return SPLITS.get(prefix, prefix)


def parts_of(split: str) -> list[str]:
    """Return the splits of which a split consists."""
    return ["test", "unsupported"] if split == "all" else [split]


def common_metrics(runs: Sequence[RunRecords]) -> list[str]:
    """Return the names of all metrics of the runs, in the order in which they first come."""
    return list(dict.fromkeys(name for run in runs for name in run.metric_names()))
