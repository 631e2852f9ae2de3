"""Prepare a run before training: build its task, and encode its data."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gptexp.config import schema
from gptexp.config.base_weights import find_leaking_split, refuse_leak
from gptexp.config.cache import cache_folder
from gptexp.config.schema import Config
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.jinja_template import InvalidTemplateError
from gptexp.data.open_source import open_mixture, open_source
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.tasks.task import Task, make_task
from gptexp.tasks.token_view import view_example


@dataclass
class TaskData:
    """A task and the store of its tokens."""

    task: Task
    store: TokenStore


def prepare(config: Config, tokenizer_file: Path | None = None, report: bool = True) -> TaskData:
    """Read, split, tokenise and cache the data of a run, or open the cached store.

    Args:
        tokenizer_file: the tokenizer of the initial weights, where the run starts from weights.
        report: print the data account where the store is built.

    Raises:
        UserError: the data cannot be read or does not fit the task.
    """
    task = make_task(config.task, config.model)
    cache = cache_folder(config)
    tokenizer = None
    if tokenizer_file and config.init_digest:
        try:
            tokenizer = task.layout.extend_tokenizer(Tokenizer.load(tokenizer_file))
        except InvalidTemplateError as error:
            raise InvalidTemplateError(f"{tokenizer_file.parent}: {error}") from None
    layout, data = task.layout, config.data
    if isinstance(data, schema.MixtureConfig):
        store: TokenStore = open_mixture(config, data, layout, cache, tokenizer)
    else:
        store = open_source(data, layout, layout.medium, config.tokenizer, cache, tokenizer)
    if config.init == "base" and store.remote:  # a folder of this machine is compared before
        leaking = find_leaking_split(store.meta, store.remote.url)
        if leaking:
            raise refuse_leak(leaking)
    if report and store.is_new:
        print(f"data account:\n{store.account.table()}", file=sys.stderr)
        if task.layout.shows_example:
            in_colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
            views = view_example(task.layout, store, "train")
            print(
                "an example; the loss is on its [[brackets]] or green text:",
                *(view.text(in_colour) for view in views),
                sep="\n",
                file=sys.stderr,
            )
    if not config.init_digest:
        config.model.check_vocab_size(store.tokenizer.vocab_size)
    for split in SPLITS:  # a split that is too short is refused here, before training
        if store.has(split):
            task.layout.dataset(store, split, config.seed if split == "train" else None)
    return TaskData(task, store)
