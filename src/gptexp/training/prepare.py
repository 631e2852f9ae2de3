"""What a run needs before anything is trained: its task, and its data encoded for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gptexp.config.compose import cache_folder
from gptexp.config.schema import Config
from gptexp.data import store as stores
from gptexp.data.corpora import open_corpus
from gptexp.data.store import Store
from gptexp.tasks import Task, make_task
from gptexp.training.weights import initial_tokenizer


@dataclass
class Prepared:
    task: Task
    store: Store


def prepare(config: Config) -> Prepared:
    """Read, split, tokenise and cache the data, or open what was cached.

    Raises:
        UserError: the data cannot be read or does not fit the task.
    """
    task = make_task(config.task, config.model.context)
    origin = config.init or config.resume
    given = initial_tokenizer(origin, Path(config.outputs)) if origin else None
    cache = cache_folder(config)
    corpus = open_corpus(config.data, task.fields, cache)
    store = stores.build(corpus, task, config.data, config.tokenizer, cache, given)
    task.sequences(store, "train", config.seed)  # refuses a split that is too short, before anything is trained
    return Prepared(task, store)
