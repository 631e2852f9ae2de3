"""From a config to a model, and from a name to weights."""

import shlex
from collections.abc import Set
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from gptexp.checkpoints import checkpoint
from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.config import schema
from gptexp.config.base_weights import FREE
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig, lora
from gptexp.model.hf import convert
from gptexp.runs.run_folder import RunFolder

SETTINGS = [
    field.name
    for field in fields(schema.ModelConfig)
    if field.name in TransformerConfig.__dataclass_fields__
]


def build_model(config: schema.Config, vocab_size: int) -> Transformer:
    model, task = config.model, config.task
    switches = {name: getattr(model, name) for name in SETTINGS}
    switches["rope_scaling"] = tuple(sorted(model.rope_scaling.items()))
    switches |= {
        "num_sequence_classes": task.num_sequence_classes,
        "num_token_classes": task.num_token_classes if model.arch == "encoder" else 0,
    }
    switches |= {
        name: getattr(task, name) for name in ("feature_size", "feature_bins", "predicts_features")
    }
    return Transformer(TransformerConfig(vocab_size=vocab_size, **switches))


def model_settings(config: TransformerConfig) -> dict[str, Any]:
    """The settings under `model` that build a model of this config."""
    found = {name: getattr(config, name) for name in SETTINGS}
    return found | {"head_dim": config.head_dim, "rope_scaling": dict(config.rope_scaling)}


def as_overrides(config: TransformerConfig, free: Set[str] = frozenset()) -> list[str]:
    """The same as words of a command, but for those in `free`."""
    words = []
    for name, value in model_settings(config).items():
        if isinstance(value, dict):
            value = (
                f"{{{','.join(f'{key}:{number}' for key, number in value.items())}}}"
                if value
                else None
            )
        if name not in free and value is not None:
            added = "+" * (name == "rope_scaling")  # Hydra: entries of a dictionary are new keys
            words.append(
                f"{added}model.{name}={str(value).lower() if isinstance(value, bool) else value}"
            )
    return words


def load(source: RunFolder | PretrainedFolder) -> tuple[Transformer, Tokenizer]:
    """A trained model in eval mode, and its tokenizer. The vocabulary is the tokenizer's (see `fit_vocabulary`).

    Raises:
        UserError: there are no weights, or they are damaged or of an architecture that is not ours.
    """
    if isinstance(source, RunFolder):
        return load_run(source)
    tokenizer = Tokenizer.load(source.tokenizer)
    try:
        model = convert.load(source.path)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    resize_token_embeddings(model, tokenizer.vocab_size)
    return model, tokenizer


def load_task_config(
    source: RunFolder | PretrainedFolder, model: Transformer
) -> tuple[schema.TaskConfig, schema.ModelConfig]:
    """What a model that `load` has given was trained for, and its settings; the models of others continue texts.

    Raises:
        UserError: it is of others, and does not continue texts.
    """
    if isinstance(source, RunFolder):
        config = source.config()
        if isinstance(config.task, schema.SpeakConfig):
            config.task.voices = source.read_record("data").get("corpus", {}).get("voices", [])
        return config.task, config.model
    task = source.task
    if task is None and model.config.arch != "decoder":
        raise UserError(
            f"{source.path}: an {model.config.arch} that gptexp has not exported: give it a task with init="
        )
    return task or schema.PretrainConfig(), schema.ModelConfig(
        size=source.path.name, **model_settings(model.config)
    )


def load_run(folder: RunFolder, which: str | None = None) -> tuple[Transformer, Tokenizer]:
    """A trained model in eval mode, and its tokenizer. `which` checkpoint: None for the best.

    Raises:
        UserError: the run has no such checkpoint, or it is damaged.
    """
    found = folder.checkpoint(which) if which else folder.best_checkpoint()
    if found is None:
        raise UserError(
            f"{folder.path}: has no checkpoint {which or 'yet'}; its own command trains it"
        )
    try:
        checkpoint.verify(found)
    except checkpoint.CorruptCheckpointError as error:
        way_out = "The run's own command goes on from one before"
        if folder.result().get("status") == "finished":
            way_out = "fresh=true in the run's own command trains it again"
        if which is None and found != folder.checkpoint("last"):
            way_out = f"Delete {found}: then the last is used"
        raise UserError(f"damaged checkpoint: {error}. {way_out}") from error
    tokenizer = Tokenizer.load(folder.path / "tokenizer.json")
    if tokenizer.fingerprint() != checkpoint.manifest(found)["belongs_to"]["tokenizer"]:
        raise UserError(
            f"{folder.path / 'tokenizer.json'}: is not the tokenizer that {found.name} was trained with"
        )
    config = folder.config()
    model = build_model(config, tokenizer.vocab_size)
    adapt(model, config.optim)
    checkpoint.load_weights(found, model)
    lora.merge(model)
    return model.eval(), tokenizer


def adapt(model: Transformer, optim: schema.OptimConfig) -> None:
    """Freeze all but low-rank factors and the heads that are new, where the settings ask for that."""
    if optim.lora_rank:
        heads = [
            "class_head",
            "feature_embedding",
            "feature_head",
            *(["head"] if model.config.num_token_classes else []),
        ]
        lora.add(model, optim.lora_rank, optim.lora_alpha, optim.lora_targets, trained=heads)


def resize_token_embeddings(model: Transformer, size: int) -> None:
    """Give the model a row for each token of its tokenizer.

    Rows beyond them pad the vocabulary of a published model to a round number, and go. Tokens that we have added to
    its tokenizer get the mean of the other rows: they begin as likely as an average token.
    """

    def fitted(rows: Tensor) -> nn.Parameter:
        more = rows.mean(dim=0, keepdim=True).expand(max(0, size - len(rows)), -1)
        return nn.Parameter(torch.cat((rows[:size], more)))

    if size == model.config.vocab_size:
        return
    with torch.no_grad():
        model.embedding.weight = fitted(model.embedding.weight)
        model.head.weight = (
            model.embedding.weight if model.config.tie_embeddings else fitted(model.head.weight)
        )
    model.config = replace(model.config, vocab_size=size)
    model.embedding.num_embeddings = model.head.out_features = size


def load_pretrained(model: Transformer, config: schema.Config) -> None:
    """Copy the weights that `init` names into `model`. Heads for another task begin as they are.

    Raises:
        UserError: they are of another shape; the message has all overrides that give this one.
    """
    assert config.init is not None
    trained, _ = load(find_weights(config.init))
    free = FREE - {"context"} if trained.config.position == "learned" else FREE
    if "encoder_decoder" not in (trained.config.arch, model.config.arch):
        free = free | {"arch"}  # what a token may look at changes no shape
    theirs, ours = model_settings(trained.config), model_settings(model.config)
    different = [name for name in SETTINGS if name not in free and theirs[name] != ours[name]]
    if different:
        said = ", ".join(f"model.{name}={theirs[name]}, not {ours[name]}" for name in different)
        needed = " ".join(shlex.quote(word) for word in as_overrides(trained.config, free))
        raise UserError(f"init={config.init}: has {said}. All that it needs: {needed}")
    mine = model.state_dict()
    fitting = {
        name: rows
        for name, rows in trained.state_dict().items()
        if name in mine and mine[name].shape == rows.shape
    }
    assert all(
        name.startswith(("head.", "class_head.", "feature_"))
        for name in mine.keys() - fitting.keys()
    )
    model.load_state_dict(fitting, strict=False)
