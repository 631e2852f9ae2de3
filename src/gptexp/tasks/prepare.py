"""What a run needs before anything is trained: its task, and its data encoded for it."""

from dataclasses import dataclass
from pathlib import Path

from gptexp.config.compose import cache_folder
from gptexp.config.schema import Config
from gptexp.data.build_store import build_store
from gptexp.data.corpora import open_corpus
from gptexp.data.splits import SPLITS
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.tasks.task import Task, make_task


@dataclass
class TaskData:
    task: Task
    store: TokenStore


def prepare(config: Config, tokenizer: Path | None = None) -> TaskData:
    """Read, split, tokenise and cache the data, or open what was cached.

    Args:
        tokenizer: file of the tokenizer that the weights we start from were trained with.

    Raises:
        UserError: the data cannot be read or does not fit the task.
    """
    task = make_task(config.task, config.model)
    cache = cache_folder(config)
    corpus = open_corpus(config.data, task.layout.fields, cache, task.layout.medium)
    given = Tokenizer.load(tokenizer) if tokenizer and config.init_digest else None
    store = build_store(corpus, task.layout, config.data, config.tokenizer, cache, given)
    for split in SPLITS:  # refuses one that is too short, before anything is trained
        if store.has(split):
            task.layout.dataset(store, split, config.seed if split == "train" else None)
    return TaskData(task, store)
