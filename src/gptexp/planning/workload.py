"""The work of a run as its config describes it: the model, and the shape of the batches, without reading any data."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptexp.checkpoints.load_model import transformer_config
from gptexp.config import schema
from gptexp.config.base_weights import FOLDER
from gptexp.config.schema import Config
from gptexp.model.config import TransformerConfig
from gptexp.model.cost import Flops, count_flops

NUM_SPECIAL_TOKENS = 4  # end of text, padding, separator, mask
NUM_BYTES = 256
GPT2_TOKENS = 50_257  # of which one is the end of text
ASSUMED_CHARACTERS = 100  # of the texts of tokenizer=char


@dataclass(frozen=True)
class DataSizes:
    """Sizes that were read from the data: means over sequences, and the longest sequence."""

    vocabulary: int
    tokens: float
    longest: int
    targets: float


@dataclass(frozen=True)
class Workload:
    """Batches of a model.

    sequences: of a global batch. tokens: of a sequence; an encoder's are `source`. targets: tokens of a sequence that
    the head is applied to. longest: tokens of the longest sequence, to which others are padded. adapters: parameters
    of LoRA's adapters. trained: parameters that are trained, adapters included; None: all of the model.
    """

    model: TransformerConfig
    sequences: int
    steps: int
    tokens: int
    source: int
    targets: float
    longest: int
    assumptions: tuple[str, ...] = ()
    adapters: int = 0
    trained: int | None = None

    @property
    def tokens_per_step(self) -> int:
        return self.sequences * (self.tokens + self.source)

    @property
    def total_tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def is_counted(self) -> bool:
        """Whether model/cost.py counts the operations: it does not for features, such as pixels and sound."""
        return not self.model.feature_size

    def step_flops(self, activation_checkpointing: str = "none") -> Flops:
        """Count the operations of an optimizer step over all devices."""
        return count_flops(
            self.model,
            self.sequences,
            self.tokens,
            source=self.source,
            targets=round(self.sequences * self.targets),
            activation_checkpointing=activation_checkpointing,
        )


def describe_workload(config: Config, sizes: DataSizes | None = None) -> Workload:
    """Describe the batches of a run; with `sizes` as the data are, else as the config lets expect.

    Raises:
        UserError: model.vocab_size is smaller than the tokenizer.
    """
    assumptions: list[str] = []
    if sizes:
        vocabulary = sizes.vocabulary
    else:
        vocabulary, assumption = assume_vocabulary(config)
        assumptions += [assumption] if assumption else []
    model = transformer_config(config, vocabulary)
    tokens, source, targets = _expected_lengths(config, model)
    longest = tokens
    if sizes and not source:
        tokens, longest, targets = round(sizes.tokens), sizes.longest, sizes.targets
    elif not fills_context(config):
        assumptions.append(
            f"sequences of {tokens + source} tokens, the longest that model.context allows: time and memory are upper "
            f"bounds (--read-data takes the lengths from the data)"
        )
    if config.model.kind != "transformer":
        assumptions.append(
            f"model.kind={config.model.kind} costs what a Transformer of this shape does"
        )
    if config.optim.lora_rank:
        assumptions.append(
            "with LoRA, operations, time and activations are those of training all weights: an upper bound"
        )
    if model.feature_size:
        assumptions.append(
            f"task={config.task.kind} has rows of features: operations, activations and time are not counted"
        )
    trainer = config.trainer
    return Workload(
        model,
        trainer.global_batch_size * config.task.rows_per_example,
        trainer.max_steps,
        tokens,
        source,
        targets,
        longest,
        tuple(assumptions),
        *_count_adapters(config, model),
    )


def _count_adapters(config: Config, model: TransformerConfig) -> tuple[int, int | None]:
    """Return the parameters of LoRA's adapters, and all that are trained; None: all of the model."""
    if not config.optim.lora_rank:
        return 0, None
    import torch

    from gptexp.checkpoints.load_model import add_lora
    from gptexp.model import Transformer

    with torch.device("meta"):
        adapted = Transformer(model)
        plain = sum(parameter.numel() for parameter in adapted.parameters())
        add_lora(adapted, config.optim)
    parameters = list(adapted.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters) - plain, trained


def fills_context(config: Config) -> bool:
    """Return whether all sequences of the task are windows of model.context tokens."""
    return config.task.kind in ("pretrain", "mlm")


def _expected_lengths(config: Config, model: TransformerConfig) -> tuple[int, int, float]:
    """Return the tokens of a sequence that fills the context, those of its source, and its targets."""
    task, context = config.task, model.context
    if model.num_token_classes:
        return context, 0, context
    if isinstance(task, schema.TextToTextConfig):
        targets = min(task.max_target_tokens + 1, context)
        if model.arch == "encoder_decoder":
            return targets, max(1, context - targets + 1), targets
        return context, 0, context if task.loss_on_prompt else targets
    if isinstance(task, schema.MaskedLMConfig):
        return context, 0, task.mask_fraction * context
    if isinstance(task, schema.NspConfig):
        return context, 0, 0
    if model.arch == "encoder_decoder":
        return max(1, context // 2), max(1, context // 2), max(1, context // 2)
    return context, 0, context


def assume_vocabulary(config: Config) -> tuple[int, str]:
    """Return the size of the vocabulary, and what is assumed about it; "": it is known."""
    model, tokenizer = config.model, config.tokenizer
    if model.vocab_size:
        return model.vocab_size, ""
    data: Any = config.data
    folders = {"base": FOLDER}.get(config.init or "", Path(config.init or ""))
    sources = [folders] if config.init else []
    sources += [Path(data.path)] if config.data.kind == "tokens" else []
    name = str(getattr(tokenizer, "name", ""))
    sources += [Path(name)] if tokenizer.kind == "hf" else []
    for folder in sources:
        if (count := count_tokens(folder / "tokenizer.json")) is not None:
            return count, ""
    match tokenizer:
        case schema.BpeConfig():
            size = tokenizer.vocab_size
            return size, f"a vocabulary of {size:,} (tokenizer.vocab_size); little text gives fewer"
        case schema.ByteConfig():
            return NUM_BYTES + NUM_SPECIAL_TOKENS, ""
        case schema.CharConfig():
            return ASSUMED_CHARACTERS, (
                f"a vocabulary of {ASSUMED_CHARACTERS} characters (--read-data counts them, or give model.vocab_size=N)"
            )
    size = GPT2_TOKENS + NUM_SPECIAL_TOKENS - 1
    if name == "gpt2":
        return size, ""
    return (
        size,
        f"a vocabulary of {size:,}, which is GPT-2's (--read-data counts it, or give model.vocab_size=N)",
    )


def count_tokens(path: Path) -> int | None:
    """Return the number of tokens of a tokenizer.json; None where there is no such file."""
    try:
        stored = json.loads(path.read_text("utf8"))
        vocabulary = stored["model"]["vocab"]
        ids = (
            set(vocabulary.values())
            if isinstance(vocabulary, dict)
            else set(range(len(vocabulary)))
        )
        ids |= {token["id"] for token in stored.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return max(ids) + 1
