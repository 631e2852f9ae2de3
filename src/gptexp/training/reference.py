"""The reference of a task that compares the model with the weights that training starts from (task=prefer).

The log-probabilities of the answers in these weights are computed before step 0, by all ranks together, and kept in the
cache of prepared data. A resumed run, an evaluation, and other runs with the same data and weights read them there, or
compute them again from the same weights, in the same batches.
"""

import json
import math
import sys
import zipfile
from collections.abc import Callable, Sequence
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
from gptexp.config.schema import Config
from gptexp.config.source import outside_fingerprint, source_fingerprint
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.data.permutation import OrderPosition
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
    splits: Sequence[str] = SPLITS,
) -> None:
    """Give a task the reference that it compares the model with; nothing to do for a task without one.

    Args:
        splits: those whose log-probabilities are needed, where the store has them.

    Raises:
        UserError: the weights that the run started from are gone or have changed, and the cache has no figures of them.
    """
    if not config.task.uses_reference:
        return
    process_group = process_group.as_data_parallel()
    initial = find_initial_config(config)
    folder, key = cache_folder(config) / "reference", _key(initial, store, device)
    load = partial(_load_checked, initial, store.tokenizer.vocab_size, process_group, device)
    model: Transformer | None = None
    tables: Tables = {}
    for split in filter(store.has, splits):
        pairs = task.layout.dataset(store, split, None)
        assert isinstance(pairs, ExampleDataset)
        indices, part = _find_needed(config, pairs, split)
        file = folder / f"{key}-{split}{part}.npz"
        table = process_group.broadcast_from_rank_zero(partial(_read, file))
        if table is None:
            if model is None:
                model = load()
            precision, description = config.trainer.precision, f"reference of the {split} split"
            table = compute_reference(
                model, pairs, indices, precision, process_group, description=description
            )
            if process_group.is_rank_zero:
                _write(file, table)
        tables[split] = table
    del model
    free_memory(device)
    load_if_unchanged = partial(_load_if_unchanged, load, process_group.is_rank_zero)
    precision_context = partial(autocast, config.trainer.precision, device)
    task.use_reference(Reference(tables, load_if_unchanged, precision_context))


def _find_needed(
    config: Config, pairs: ExampleDataset, split: str
) -> tuple[NDArray[np.int64], str]:
    """Return the pairs of a split that a run reads, and a name for them; "": all.

    A short training reads a part of the training split, which its seed decides.
    """
    count = config.trainer.max_steps * config.trainer.global_batch_size
    starts_elsewhere = bool(config.resume or config.allow_mismatch)
    if split != "train" or starts_elsewhere or count >= len(pairs):
        return np.arange(len(pairs)), ""
    block = config.data.order_block
    indices = pairs.global_batch_indices(config.seed, OrderPosition(), count, block)
    order = "" if block is None else f"-{block}"
    return np.sort(indices), f"-{config.seed}-{count}{order}"


def _load_checked(
    initial: Config,
    num_tokens: int,
    process_group: ProcessGroup,
    device: torch.device,
    is_sharded: bool | None = None,
) -> Transformer:
    """Load the initial weights as `load_initial` does, after a check that they are the same as at the start.

    Raises:
        UserError: they are gone or have changed.
    """
    if is_sharded is False:  # each rank may be alone here
        check_initial_weights(initial)
        return load_initial(initial, num_tokens, process_group, device, is_sharded)
    with process_group.fail_together():
        if process_group.is_rank_zero:
            check_initial_weights(initial)
        return load_initial(initial, num_tokens, process_group, device, is_sharded)


def _load_if_unchanged(
    load: Callable[..., Transformer], is_rank_zero: bool, is_sharded: bool
) -> Transformer | None:
    """Load the initial weights for metrics; None, and a line on stderr, where they are gone or have changed."""
    try:
        return load(is_sharded=is_sharded)
    except UserError as error:
        if is_rank_zero:
            print(
                f"scores without kl, which compares the model with its initial weights: {error}",
                file=sys.stderr,
            )
        return None


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


def _read(file: Path) -> NDArray[np.float32] | None:
    """Return the table of a file; None: it is missing or damaged."""
    damages = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with suppress(*damages), np.load(file) as stored:
        return stored["log_probs"]
    return None


def _write(file: Path, table: NDArray[np.float32]) -> None:
    with suppress(OSError):  # a cache that cannot be written
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, log_probs=table)


@torch.no_grad()
def compute_reference(
    model: Transformer,
    pairs: ExampleDataset,
    indices: NDArray[np.int64],
    precision: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
    batch_size: int | None = None,
    description: str = "reference",
) -> NDArray[np.float32]:
    """Return the log-probabilities [N, 2] of the answers of all pairs, on every rank; NaN but for `indices`.

    Ranks share the batches, which do not depend on the number of ranks.
    """
    model.eval()
    device = compute_device(model.embedding.weight)
    if isinstance(model, FSDPModule):
        model.unshard()  # the embedding and the head; each block gathers its own weights
    size = batch_size or max(1, held_out_batch_size(model.config.context) // 2)
    order = indices[np.argsort(pairs.index["length"][indices], kind="stable")]  # little padding
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    table = torch.zeros(len(pairs), 2, device=device)
    # A sharded model computes on all ranks together: one without a batch of its own repeats the first.
    count = math.ceil(len(batches) / process_group.size)
    for number in track_progress(range(count), description, "batches", count):
        index = number * process_group.size + process_group.rank
        batch = batches[index if index < len(batches) else 0]
        inputs = pairs.batch(batch, 0, batch).inputs()
        tokens, targets = (inputs[name].to(device) for name in ("tokens", "targets"))
        with autocast(precision, device):
            log_probs = compute_log_probs(model, tokens, targets)
        if index < len(batches):
            table[torch.from_numpy(batch).to(device)] = log_probs.view(-1, 2)
    values = process_group.all_reduce(table).cpu().numpy()
    is_known = np.zeros((len(pairs), 1), bool)
    is_known[indices] = True
    return np.where(is_known, values, np.float32(np.nan))
