"""Models of a run that no rank has to hold as a whole: to train, with its initial weights, from its best checkpoint."""

from dataclasses import replace
from functools import partial

import torch

from gptexp.checkpoints.load_model import (
    build_model,
    load_run,
    open_run_weights,
    pretrained_weights,
)
from gptexp.config.schema import Config
from gptexp.distributed.deferred_init import DeferredWeights
from gptexp.distributed.process_group import TIMEOUT, ProcessGroup
from gptexp.distributed.sharding import fill_parameters
from gptexp.distributed.strategies import build_mesh, can_hold_model, shard_model
from gptexp.model import Transformer
from gptexp.runs.run_folder import RunFolder


def build_deferred(config: Config, num_tokens: int) -> tuple[Transformer, DeferredWeights] | None:
    """Build the model of a config on the meta device.

    Returns:
        None: the model is not sharded, or its weights cannot be initialised shard by shard.
    """
    if not config.trainer.is_sharded:
        return None
    deferred = DeferredWeights(config.seed)
    try:
        with deferred.construction():
            model = build_model(config, num_tokens)
    except Exception:  # the constructor needs values; any other error comes again on a device
        return None
    return (model, deferred) if deferred.can_fill(model) else None


def load_best(
    folder: RunFolder,
    config: Config,
    num_tokens: int,
    process_group: ProcessGroup,
    device: torch.device,
) -> Transformer:
    """Load the model of a run's best checkpoint, sharded if it takes too much of the memory of a rank.

    Raises:
        UserError: the checkpoint is damaged.
    """
    built = build_deferred(config, num_tokens)
    if built is None or can_hold_model(built[0], device, process_group):
        return load_run(folder)[0].to(device)
    model, deferred = built
    with process_group.fail_together():  # rank zero alone verifies files
        meta = partial(torch.device, "meta")
        _, _, deferred.stored = open_run_weights(folder, meta, process_group.is_rank_zero)
    return _shard_for_answers(model, deferred, config, process_group, device)


def load_initial(
    config: Config,
    num_tokens: int,
    process_group: ProcessGroup,
    device: torch.device,
    is_sharded: bool | None = None,
) -> Transformer:
    """Load the weights that `init` names as the model of a config.

    Args:
        is_sharded: None: as `load_best` decides, on all ranks together; False: each rank may call this alone.

    Raises:
        UserError: there are no such weights, or they are damaged.
    """
    is_whole = process_group.size == 1 if is_sharded is None else not is_sharded
    built = None if is_whole else build_deferred(config, num_tokens)
    if is_sharded is None and built and can_hold_model(built[0], device, process_group):
        built = None
    if built is None:
        model = build_model(config, num_tokens)
        verifies = is_sharded is None and process_group.is_rank_zero
        fill_parameters(model, pretrained_weights(model, config, verifies=verifies))
        return model.to(device).eval()
    model, deferred = built
    with process_group.fail_together():  # rank zero alone verifies files
        verifies = process_group.is_rank_zero
        deferred.stored = pretrained_weights(model, config, deferred.construction, verifies)
    return _shard_for_answers(model, deferred, config, process_group, device)


def _shard_for_answers(
    model: Transformer,
    deferred: DeferredWeights,
    config: Config,
    process_group: ProcessGroup,
    device: torch.device,
) -> Transformer:
    # Answers are computed in fp32, and autocast alone decides what else is computed in bf16.
    plain = replace(config.trainer, precision="32", tensor_parallel=1)
    mesh = build_mesh(plain, process_group.as_data_parallel(), device)
    home = torch.device("cpu") if config.trainer.cpu_offload else device
    deferred.materialize(model, home, partial(shard_model, model, mesh, plain))
    process_group.set_timeout(TIMEOUT)  # of the groups of this mesh, too
    return model.eval()
