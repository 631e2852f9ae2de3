"""Build models from a config, and load trained ones from runs, exported folders and published folders."""

import shlex
from collections.abc import Callable, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gptexp.checkpoints.checkpoint import Checkpoint, CorruptCheckpointError
from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.config import schema
from gptexp.config.base_weights import FREE_SETTINGS
from gptexp.config.targets import build_target, import_target
from gptexp.data.tokenizer_files import read_eos_ids
from gptexp.data.tokenizers import NumericTokenizer, Tokenizer
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig, lora
from gptexp.model.hf import convert
from gptexp.runs.run_folder import RunFolder
from gptexp.stored_tensors import StoredTensor, compute_stored, join_stored

# Settings under `model` that are also fields of TransformerConfig.
SHARED_FIELDS = [
    field.name
    for field in fields(schema.ModelConfig)
    if field.name in TransformerConfig.__dataclass_fields__
]
Construction = Callable[[], AbstractContextManager[Any]]
STANDARD_FIELDS = {field.name for field in fields(schema.ModelConfig)}


def build_model(config: schema.Config, num_tokens: int) -> Transformer:
    """Build the model of a config with random weights; see `transformer_config`."""
    model, values = config.model, transformer_config(config, num_tokens)
    if model.parameters is not None:
        return build_target(model, config=values)
    extra = {name: value for name, value in vars(model).items() if name not in STANDARD_FIELDS}
    return import_target(model.target)(values, **extra)


def transformer_config(config: schema.Config, num_tokens: int) -> TransformerConfig:
    """Return the sizes and switches of the model of a config.

    Args:
        num_tokens: tokens of the tokenizer; the embedding has as many rows unless model.vocab_size says more.

    Raises:
        UserError: model.vocab_size is smaller than the tokenizer.
    """
    model, task = config.model, config.task
    model.check_vocab_size(num_tokens)
    values = {name: getattr(model, name) for name in SHARED_FIELDS}
    values |= {
        "vocab_size": model.vocab_size or num_tokens,
        "rope_scaling": tuple(sorted(model.rope_scaling.items())),
        "num_sequence_classes": task.num_sequence_classes,
        "num_token_classes": task.num_token_classes if model.arch == "encoder" else 0,
        "feature_size": task.feature_size,
        "feature_bins": task.feature_bins,
        "predicts_features": task.predicts_features,
    }
    return TransformerConfig(**values)


def model_settings(config: TransformerConfig, num_tokens: int | None = None) -> dict[str, Any]:
    """Return the settings under `model` that build a model of this config.

    Args:
        num_tokens: tokens of the model's tokenizer; where the embedding has no more rows, vocab_size is None.
    """
    settings = {name: getattr(config, name) for name in SHARED_FIELDS}
    settings |= {"head_dim": config.head_dim, "rope_scaling": dict(config.rope_scaling)}
    if config.vocab_size == num_tokens:
        settings["vocab_size"] = None
    return settings


def as_overrides(
    config: TransformerConfig, free: Set[str] = frozenset(), num_tokens: int | None = None
) -> list[str]:
    """Return `model_settings` as overrides of a command, without the settings in `free`."""
    overrides = []
    for name, value in model_settings(config, num_tokens).items():
        if name in free or value is None or value == {}:
            continue
        key = f"model.{name}"
        if isinstance(value, dict):
            key = f"+{key}"  # Hydra: the entries of a dictionary are new keys
            value = f"{{{','.join(f'{entry}:{number}' for entry, number in value.items())}}}"
        elif isinstance(value, bool):
            value = str(value).lower()
        overrides.append(f"{key}={value}")
    return overrides


def load(source: RunFolder | PretrainedFolder) -> tuple[Transformer, Tokenizer]:
    """Load a trained model, in eval mode, and its tokenizer.

    Raises:
        UserError: there are no weights, they are damaged, or their architecture is not supported.
    """
    if isinstance(source, RunFolder):
        return load_run(source)
    model, tokenizer, weights = open_folder(source)
    return convert.read_model(model, weights), tokenizer


def open_folder(source: PretrainedFolder) -> tuple[Transformer, Tokenizer, dict[str, StoredTensor]]:
    """Return a published model on the meta device, its tokenizer, and its weights, which are not read yet.

    The embedding keeps all its rows, also those that pad a published vocabulary to a round number. Special tokens that
    a published tokenizer lacks are added, with new rows where there are too few.

    Raises:
        UserError: there are no weights, they are damaged, or their architecture is not supported.
    """
    tokenizer = Tokenizer.load(source.tokenizer) if source.has_tokenizer else None
    try:
        model, weights = convert.open_model(source.path)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    if tokenizer is None:
        eos_ids = read_eos_ids(source.path)
        numeric = NumericTokenizer(model.config.vocab_size, source.special_ids(), eos_ids)
        return model, numeric, weights
    if tokenizer.vocab_size > model.config.vocab_size:
        model, weights = resize_token_embeddings(model, weights, tokenizer.vocab_size)
    return model, tokenizer, weights


def load_task_config(
    source: RunFolder | PretrainedFolder, model: Transformer
) -> tuple[schema.TaskConfig, schema.ModelConfig]:
    """Return the task that a loaded model was trained for, and its settings. Published decoders continue texts.

    Raises:
        UserError: it is a published encoder or encoder_decoder, which has no task.
    """
    if isinstance(source, RunFolder):
        config = source.config()
        config.task.use_corpus(source.read_record("data").get("corpus", {}))
        return config.task, config.model
    task = source.task
    if task is None and model.config.arch != "decoder":
        raise UserError(
            f"{source.path}: is an {model.config.arch} without a task; train it for one: "
            f"python -m gptexp.run task=NAME init={source.path}"
        )
    settings = schema.ModelConfig(size=source.path.name, **model_settings(model.config))
    return task or schema.PretrainConfig(), settings


def load_run(folder: RunFolder, name: str | None = None) -> tuple[Transformer, Tokenizer]:
    """Load a run's model, in eval mode, and its tokenizer.

    Args:
        name: of the checkpoint: "last", "step-000100"; None: the best.

    Raises:
        UserError: the run has no such checkpoint, or it is damaged.
    """
    config, tokenizer, checkpoint = open_run(folder, name)
    model = build_model(config, tokenizer.vocab_size)
    add_lora(model, config.optim)
    checkpoint.load_weights(model)
    lora.merge(model)
    return model.eval(), tokenizer


def open_run(
    folder: RunFolder, name: str | None = None, verifies: bool = True
) -> tuple[schema.Config, Tokenizer, Checkpoint]:
    """Return a run's config and tokenizer, and a checkpoint of it.

    Args:
        name: of the checkpoint: "last", "step-000100"; None: the best.
        verifies: compare its files with their hashes, which reads all of them.

    Raises:
        UserError: the run has no such checkpoint, or it is damaged.
    """
    path = folder.checkpoint(name) if name else folder.best_checkpoint()
    if path is None:
        raise UserError(
            f"{folder.path}: has no checkpoint {name or 'yet'}; repeat the run's command to train it"
        )
    checkpoint = Checkpoint(path)
    try:
        if verifies:
            checkpoint.verify()
    except CorruptCheckpointError as error:
        advice = "Repeat the run's command to continue from the checkpoint before"
        if folder.result().get("status") == "finished":
            advice = "Repeat the run's command with fresh=true to train it again"
        if name is None and path != folder.checkpoint("last"):
            advice = f"Delete {path} to use the last checkpoint"
        raise UserError(f"damaged checkpoint: {error}. {advice}") from None
    tokenizer = Tokenizer.load(folder.tokenizer)
    if tokenizer.fingerprint() != checkpoint.fingerprint["tokenizer"]:
        raise UserError(
            f"{folder.tokenizer}: is not the tokenizer that {path.name} was trained with"
        )
    return folder.config(), tokenizer, checkpoint


def add_lora(model: Transformer, optim: schema.OptimConfig, has_new_tokens: bool = False) -> None:
    """Add low-rank adapters and freeze all other weights but new heads, if optim.lora_rank asks for it.

    Args:
        has_new_tokens: train the embedding and the output head, too: the weights of init do not know some tokens.
    """
    if not optim.lora_rank:
        return
    trained = ["class_head", "feature_embedding", "feature_head"]
    if model.config.num_token_classes or has_new_tokens:
        trained.append("head")
    if has_new_tokens:
        trained.append("embedding")
    lora.add(model, optim.lora_rank, optim.lora_alpha, optim.lora_targets, trained=trained)


def resize_token_embeddings(
    model: Transformer, weights: dict[str, StoredTensor], size: int
) -> tuple[Transformer, dict[str, StoredTensor]]:
    """Return a model on the meta device whose token embedding and output head have `size` rows, and its weights.

    New rows are the mean of the others, so that a new token starts as likely as an average one.
    """
    with torch.device("meta"):
        larger = type(model)(replace(model.config, vocab_size=size))
    resized = dict(weights)
    for name in ("embedding.weight", "head.weight"):
        # A tied head has no weight of its own, a head of tags none of tokens.
        if name in weights and weights[name].shape[0] == model.config.vocab_size:
            rows = weights[name].float()
            count, width = rows.shape
            compute = partial(_mean_rows, rows, size - count)
            new = compute_stored((size - count, width), rows.dtype, compute)
            resized[name] = join_stored((size, width), [((0, 0), rows), ((count, 0), new)])
    return larger, resized


def _mean_rows(rows: StoredTensor, count: int) -> Tensor:
    return rows.read_all().mean(dim=0, keepdim=True).expand(count, -1)


def open_run_weights(
    folder: RunFolder, construction: Construction, verifies: bool = True
) -> tuple[Transformer, Tokenizer, dict[str, StoredTensor]]:
    """Return a model like that of a run's best checkpoint, its tokenizer, and its weights, which are not read yet.

    Low-rank adapters are merged into the weights. The model still has them.
    """
    config, tokenizer, checkpoint = open_run(folder, verifies=verifies)
    with construction():
        model = build_model(config, tokenizer.vocab_size)
        add_lora(model, config.optim)
    return model, tokenizer, lora.merge_stored(model, checkpoint.weights_of(model))


def pretrained_weights(
    model: Transformer,
    config: schema.Config,
    construction: Construction = nullcontext,
    verifies: bool = True,
) -> dict[str, StoredTensor]:
    """Return the weights that `init` names as those of `model`, without heads that they lack or that differ in shape.

    Args:
        construction: makes the context in which the model of another run is built.
        verifies: compare the files of a run with their hashes.

    Raises:
        UserError: the weights have another shape; the message lists the overrides that fit.
    """
    assert config.init is not None
    source = find_weights(config.init)
    if isinstance(source, RunFolder):
        pretrained, tokenizer, weights = open_run_weights(source, construction, verifies)
    else:
        pretrained, tokenizer, weights = open_folder(source)
    num_tokens, size = tokenizer.vocab_size, model.config.vocab_size
    if config.model.vocab_size is None and size > pretrained.config.vocab_size:
        # The task has added tokens to the tokenizer of the weights.
        pretrained, weights = resize_token_embeddings(pretrained, weights, size)
        num_tokens = size
    free: Set[str] = FREE_SETTINGS
    if pretrained.config.position == "learned":  # its table has a row for each position
        free = free - {"context"}
    if "encoder_decoder" not in (pretrained.config.arch, model.config.arch):
        free = free | {"arch"}  # the attention mask changes no shape
    theirs, ours = (model_settings(m.config, num_tokens) for m in (pretrained, model))
    different = [name for name in SHARED_FIELDS if name not in free and theirs[name] != ours[name]]
    if different:
        differences = ", ".join(
            f"model.{name}={theirs[name]}, not {ours[name]}" for name in different
        )
        overrides = as_overrides(pretrained.config, free, num_tokens)
        raise UserError(
            f"init={config.init}: has {differences}. Settings that fit it: {shlex.join(overrides)}"
        )
    current = dict(model.named_parameters())
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in current and tuple(current[name].shape) == tensor.shape
    }
    assert all(
        name.startswith(("head.", "class_head.", "feature_"))
        for name in current.keys() - fitting.keys()
    )
    return fitting
