"""Train on a data set in memory: write it to a file that data=files reads, and choose settings that suit its size."""

import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptexp.checkpoints.find_weights import with_initial_tokenizer
from gptexp.config import compose
from gptexp.config.cache import cache_folder
from gptexp.config.schema import Config, FilesConfig
from gptexp.data.corpora.conversation_records import CHAT_COLUMNS, PREFERENCES
from gptexp.data.corpora.record_readers import READERS, make_reader
from gptexp.errors import UserError
from gptexp.files import atomic_write, short_hash
from gptexp.tasks.prepare import prepare
from gptexp.tasks.task import Task, make_task

FEW_EXAMPLES = 50  # a smaller data set is not split: all examples are trained on
PASSES = 20  # over the data, by default
MIN_STEPS = 100

Row = dict[str, Any]


def compose_for_dataset(
    dataset: Iterable[Any],
    overrides: Sequence[str],
    defaults: Sequence[str] = (),
    task: Task | None = None,
) -> Config:
    """Write a data set to a file, and compose the config that trains on it.

    Args:
        dataset: see `gptexp.train`.
        overrides: settings of the user.
        defaults: overrides that those of the user replace.
        task: the task of the model that is trained further, which is kept where it fits the data.

    Raises:
        UserError: an item of the data set does not fit the task, or a setting is wrong.
    """
    user_overrides = {override.partition("=")[0].lstrip("+"): override for override in overrides}
    for key in ("data", "data.path"):
        if key in user_overrides and user_overrides[key] != "data=files":
            raise UserError(f"{user_overrides[key]}: the data set takes its place; leave it out")
    rows = list(_read_rows(dataset))
    defaults = ["data=files", *defaults]
    if user_overrides.keys().isdisjoint({"task", "experiment"}):
        defaults.append(f"task={_suitable_task(rows, task)}")
    if len(rows) < FEW_EXAMPLES:
        defaults += ["data.val_fraction=0", "data.test_fraction=0"]
    config = compose.compose_config(["data.path=in-memory", *defaults, *overrides])
    config = _with_rows(config, rows)
    if "experiment" not in user_overrides:
        _choose_steps(config, len(rows), user_overrides)
    return config


def with_dataset(config: Config, dataset: Iterable[Any]) -> Config:
    """Return a config that trains on a data set, and is otherwise the same."""
    if not isinstance(config.data, FilesConfig):
        config = replace(config, data=FilesConfig())
    return _with_rows(config, list(_read_rows(dataset)))


def _read_rows(dataset: Iterable[Any]) -> Iterator[Row]:
    """Yield each item as a dict of fields."""
    if isinstance(dataset, str | Path):
        raise UserError(
            f"{dataset!s:.60}: is one text; give a list of texts, or train on a file with data=files data.path=..."
        )
    if isinstance(dataset, dict):
        raise UserError(
            f"the data set is a dict of {', '.join(map(str, dataset))}: give one of its parts, "
            f"dataset['train'] for example"
        )
    # A torch Dataset may not know its end: ask for its length.
    is_sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    items = (dataset[number] for number in range(len(dataset))) if is_sized else iter(dataset)  # type: ignore[index,arg-type]
    for number, item in enumerate(items):
        match item:
            case str():
                yield {"text": item}
            case dict():
                yield item
            case (str() as source, str() as target):
                yield {"source": source, "target": target}
            case _:
                raise UserError(
                    f"item {number} of the data set is {str(item)[:60]!r}: give texts, pairs of texts, or dicts with "
                    f"`text`, `messages`, or `source` and `target` or `terms` (not token numbers)"
                )


def _suitable_task(rows: list[Row], task: Task | None) -> str:
    if task and all(field in row for row in rows for field in task.layout.fields):
        return task.config.kind
    kinds = {_suitable_task_of_row(row) for row in rows}
    if len(kinds) != 1:
        raise UserError(
            f"the data set has items for {' and '.join(sorted(kinds)) or 'no task'}: "
            f"give texts or pairs, all of one kind"
        )
    return kinds.pop()


def _suitable_task_of_row(row: Row) -> str:
    if "text" in row:
        return "pretrain"
    if all(name in row for name in PREFERENCES):
        return "prefer"
    if any(name in row for name in CHAT_COLUMNS):
        return "chat"
    return "extract" if "terms" in row else "summarize"


def _with_rows(config: Config, rows: list[Row]) -> Config:
    """Write the fields that the task reads to a file, named by its content, and return a config that reads it."""
    assert isinstance(config.data, FilesConfig)
    layout = make_task(config.task, config.model).layout
    data = config.data.with_template(layout.fields)
    names = data.fields
    records = []
    for number, row in enumerate(rows):
        reader = make_reader(layout.fields, data)
        example = reader.example(row, f"item {number} of the data set")
        reader.check_names()
        if layout.fields in READERS:  # the layout of a conversation is recognised when it is read
            records.append(row)
            continue
        blank = None if example.left_out else ""
        records.append(
            {names.get(name, name): text or blank for name, text in example.fields.items()}
        )
    if layout.stream:  # texts that do not fill two windows are repeated: at least a token a word
        words = sum(len(text.split()) for record in records for text in record.values() if text)
        records *= math.ceil(2 * (config.model.context + 1) / max(1, words))
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    name = short_hash(text)
    path = cache_folder(config) / "datasets" / f"{name}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf8")
    return replace(config, data=replace(config.data, path=str(path)))


def _choose_steps(config: Config, num_examples: int, user_keys: Collection[str]) -> None:
    """Choose the steps by the number of sequences, and a batch no larger than the data, unless they are overridden.

    Report the choice.
    """
    trainer, sequences, report = config.trainer, _count_sequences(config), []
    if "trainer.global_batch_size" not in user_keys:
        world = trainer.devices * trainer.nodes
        batch = min(trainer.global_batch_size, sequences) // world * world
        trainer.global_batch_size = max(world, batch)
        report.append(f"trainer.global_batch_size={trainer.global_batch_size}")
    if "trainer.max_steps" not in user_keys:
        steps = math.ceil(PASSES * sequences / trainer.global_batch_size)
        trainer.max_steps = min(max(steps, MIN_STEPS), trainer.max_steps)
        report.append(f"trainer.max_steps={trainer.max_steps}")
    if report:
        text = (
            f"{num_examples:,} examples make {sequences:,} training sequences: {' '.join(report)}"
        )
        print(text, file=sys.stderr)


def _count_sequences(config: Config) -> int:
    """Count the training sequences. This prepares the data, and the run then finds it in the cache."""
    data = prepare(*with_initial_tokenizer(config))
    return len(data.task.layout.dataset(data.store, "train", config.seed))
