"""From a config to a model, and from a name to weights: a run folder of ours."""

from __future__ import annotations

from dataclasses import fields

from gptexp.config import schema
from gptexp.config.errors import UserError
from gptexp.data.tokenizers import Tokenizer
from gptexp.model import Transformer, TransformerConfig
from gptexp.reporting.record import RunFolder, find_run
from gptexp.training import checkpoint

FREE = {
    "size",
    "flavour",
    "context",
    "dropout",
}  # settings that may differ between a run and the one it starts from


def build_model(config: schema.Model, vocab_size: int) -> Transformer:
    names = {field.name for field in fields(TransformerConfig)} - {"vocab_size"}
    return Transformer(TransformerConfig(vocab_size=vocab_size, **{name: getattr(config, name) for name in names}))


def load_run(folder: RunFolder, which: str | None = None) -> tuple[Transformer, Tokenizer]:
    """A trained model in eval mode, and its tokenizer. `which` checkpoint: None for the best.

    Raises:
        UserError: the run has no such checkpoint, or it is damaged.
    """
    found = folder.checkpoint(which) if which else folder.trained()
    if found is None:
        raise UserError(f"{folder.path}: has no checkpoint {which or 'yet'}; its own command trains it")
    try:
        checkpoint.verify(found)
    except checkpoint.DamagedError as error:
        raise UserError(f"damaged checkpoint: {error}. The run's own command goes on from one before") from error
    tokenizer = Tokenizer.load(folder.path / "tokenizer.json")
    if tokenizer.fingerprint() != checkpoint.manifest(found)["belongs_to"]["tokenizer"]:
        raise UserError(f"{folder.path / 'tokenizer.json'}: is not the tokenizer that {found.name} was trained with")
    model = build_model(folder.config().model, tokenizer.vocab_size)
    checkpoint.load_weights(found, model)
    return model.eval(), tokenizer


def initialise(model: Transformer, config: schema.Config) -> None:
    """Copy the weights that `init` names into `model`.

    Raises:
        UserError: they are of another shape.
    """
    assert config.init is not None
    source = find_run(config.init)
    theirs, ours = source.config().model, config.model
    for name in [field.name for field in fields(schema.Model) if field.name not in FREE]:
        if getattr(theirs, name) != getattr(ours, name):
            raise UserError(
                f"init={config.init}: has model.{name}={getattr(theirs, name)}, not {getattr(ours, name)}. "
                f"Use model={theirs.size} model.{name}={getattr(theirs, name)}"
            )
    if ours.position == "learned" and theirs.context != ours.context:
        raise UserError(f"init={config.init}: learned positions for model.context={theirs.context}, not {ours.context}")
    trained, _ = load_run(source)
    model.load_state_dict(trained.state_dict())
