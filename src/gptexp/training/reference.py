"""The reference of a task that compares the model with the weights that training starts from (task=prefer).

The log-probabilities of all answers in these weights are computed once, before step 0, by all ranks together, and kept
in the cache of prepared data. A resumed run, an evaluation, and other runs with the same data and weights read them
there, or compute them again from the same weights.
"""

import json
import math
import zipfile
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.fsdp import FSDPModule

from gptexp.checkpoints.find_weights import find_weights
from gptexp.config.cache import cache_folder
from gptexp.config.keys import iter_settings
from gptexp.config.schema import Config, TrainerConfig
from gptexp.config.source import outside_fingerprint, source_fingerprint
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.data.progress import track_progress
from gptexp.data.token_store import TokenStore
from gptexp.distributed.devices import autocast, lightning_precision
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import compute_device
from gptexp.errors import UserError
from gptexp.files import atomic_write, short_hash
from gptexp.model import Transformer
from gptexp.model.token_loss import compute_log_probs
from gptexp.runs.run_folder import find_run
from gptexp.tasks.reference import Reference
from gptexp.tasks.task import Task
from gptexp.training.evaluation import held_out_batch_size
from gptexp.training.garbage import free_memory
from gptexp.training.sharded_models import load_initial

SINGLE_PROCESS = ProcessGroup()
Tables = dict[str, NDArray[np.float32]]  # [N, 2] by split


def prepare_reference(
    config: Config,
    task: Task,
    store: TokenStore,
    device: torch.device,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Give a task the reference that it compares the model with; nothing to do for a task without one.

    Raises:
        UserError: the weights that the run started from are gone or have changed, and the cache has no figures of them.
    """
    if not config.task.uses_reference:
        return
    process_group = process_group.as_data_parallel()
    initial = find_initial_config(config)
    file = cache_folder(config) / "reference" / f"{_key(initial, store, device)}.npz"
    tables = process_group.broadcast_from_rank_zero(lambda: _read(file, store))
    load = partial(load_initial, initial, store.tokenizer.vocab_size, process_group, device)
    if tables is None:
        with process_group.fail_together():
            if process_group.is_rank_zero:
                check_initial_weights(initial)
            model = load()
        tables = _compute_tables(model, task, store, config.trainer, process_group)
        del model
        free_memory(device)
        if process_group.is_rank_zero:
            _write(file, tables)
    task.use_reference(Reference(tables, load, partial(autocast, config.trainer.precision, device)))


def find_initial_config(config: Config) -> Config:
    """Return the config of the run that started from weights: this one, or the first of those that it continues.

    Raises:
        UserError: none of them started from weights.
    """
    initial = config
    while not initial.init and initial.resume:
        initial = find_run(initial.resume, Path(config.outputs)).config()
    if not initial.init:
        raise UserError(
            f"task={config.task.kind} compares the model with the weights that training started from, and there are "
            f"none: start it with init=RUN"
        )
    return replace(config, init=initial.init, init_digest=initial.init_digest, resume=None)


def check_initial_weights(config: Config) -> None:
    """Check that the weights that a run started from are what they were.

    Raises:
        UserError: they are gone or have changed.
    """
    assert config.init is not None
    digest = find_weights(config.init, Path(config.outputs)).weights_digest()
    if digest != config.init_digest:
        raise UserError(
            f"init={config.init}: its weights have changed since the run started from them, and "
            f"task={config.task.kind} compares the model with them. Put them back, or start again with fresh=true"
        )


def _key(config: Config, store: TokenStore, device: torch.device) -> str:
    """Return a hash of all that the log-probabilities depend on."""
    values = {
        "weights": config.init_digest,
        "store": store.fingerprint,
        "model": {name: value for name, _, value in iter_settings(config.model)},
        "precision": lightning_precision(config.trainer.precision, device),
        "source": source_fingerprint("model"),
        "outside": outside_fingerprint([config.model.target.partition(":")[0]]),
    }
    return short_hash(json.dumps(values, sort_keys=True, default=str))


def _read(file: Path, store: TokenStore) -> Tables | None:
    """Return the tables of a file; None: it is missing or damaged."""
    damages = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with suppress(*damages), np.load(file) as stored:
        return {split: stored[split] for split in SPLITS if store.has(split)}
    return None


def _write(file: Path, tables: Tables) -> None:
    with suppress(OSError):  # a cache that cannot be written
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **tables)  # type: ignore[arg-type]


def _compute_tables(
    model: Transformer,
    task: Task,
    store: TokenStore,
    trainer: TrainerConfig,
    process_group: ProcessGroup,
) -> Tables:
    size = max(1, held_out_batch_size(task.context) // 2)
    size = min(size, trainer.micro_batch_size or size)
    tables = {}
    for split in SPLITS:
        if store.has(split):
            pairs = task.layout.dataset(store, split, None)
            assert isinstance(pairs, ExampleDataset)
            description = f"reference of the {split} split"
            tables[split] = compute_reference(
                model, pairs, size, trainer.precision, process_group, description
            )
    return tables


@torch.no_grad()
def compute_reference(
    model: Transformer,
    pairs: ExampleDataset,
    batch_size: int,
    precision: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
    description: str = "reference",
) -> NDArray[np.float32]:
    """Return the log-probabilities [N, 2] of the answers of all pairs, on every rank. Ranks share the batches."""
    model.eval()
    device = compute_device(model.embedding.weight)
    if isinstance(model, FSDPModule):
        model.unshard()  # the embedding and the head; each block gathers its own weights
    order = np.argsort(pairs.index["length"], kind="stable")  # little padding
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    table = torch.zeros(len(order), 2, device=device)
    # A sharded model computes on all ranks together: one without a batch of its own repeats the first.
    count = math.ceil(len(batches) / process_group.size)
    for number in track_progress(range(count), description, "batches", count):
        index = number * process_group.size + process_group.rank
        indices = batches[index if index < len(batches) else 0]
        inputs = pairs.batch(indices, 0, indices).inputs()
        tokens, targets = (inputs[name].to(device) for name in ("tokens", "targets"))
        with autocast(precision, device):
            log_probs = compute_log_probs(model, tokens, targets)
        if index < len(batches):
            table[torch.from_numpy(indices).to(device)] = log_probs.view(-1, 2)
    return process_group.all_reduce(table).cpu().numpy()
