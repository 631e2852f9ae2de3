"""Every setting of a run: type, default, allowed values and one line of documentation.

The YAML files under conf/ state only differences from these defaults. `option(..., affects_result=False)`
marks what cannot change what a run computes: it is left out of the run's id (see identity.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from gptexp.config.option import option


@dataclass
class Model:
    size: str = option(MISSING, "name of the size; part of the run folder's name")
    arch: str = option("decoder", "prefix: a decoder that sees all of the given text; encoder: sees everything",
                       choices=("decoder", "prefix", "encoder", "encoder_decoder"))  # fmt: skip
    flavour: str = option("modern", "sets every switch below that is null", choices=("modern", "gpt2"))
    layers: int = option(MISSING, "Transformer blocks", minimum=1)
    width: int = option(MISSING, "width of the residual stream (d_model, n_embd)", minimum=1)
    heads: int = option(MISSING, "attention heads", minimum=1)
    kv_heads: int | None = option(None, "key and value heads; fewer than heads is grouped attention", minimum=1)
    head_size: int = option(0, "size of a head; 0: width / heads", minimum=0)
    hidden: int | None = option(None, "inner width of the feed-forward; null: 4x (gelu) or 8/3x (swiglu)", minimum=1)
    context: int = option(256, "longest sequence, in tokens", minimum=2)
    dropout: float = option(0.0, "dropout on embeddings, attention and residual branches", minimum=0, maximum=0.99)
    position: str | None = option(None, "how positions enter", choices=("learned", "rotary", "sinusoidal"))
    norm: str | None = option(None, "normalisation", choices=("layer", "rms"))
    norm_eps: float | None = option(None, "what keeps the normalisation from dividing by zero", minimum=0)
    feed_forward: str | None = option(None, "feed-forward", choices=("gelu", "swiglu", "relu2"))
    qk_norm: bool | None = option(None, "RMSNorm on queries and keys of each head")
    bias: bool | None = option(None, "biases in linear layers")
    tied: bool | None = option(None, "output head shares the token embedding")
    initialisation: str | None = option(None, "gpt2: small normal weights; zero: blocks that start as the identity",
                                        choices=("gpt2", "zero"))  # fmt: skip
    rope_theta: float = option(10000.0, "base of the rotary frequencies", minimum=1)
    rope_scaling: dict[str, float] = option({}, "Llama 3's scaling of the rotary frequencies, for longer contexts")


@dataclass
class Data:
    kind: str = option(MISSING, "which source: the data group's name")
    split: str = option("near", "near: near-duplicates stay on one side; exact: equal texts; tail: the end is held out",
                        choices=("near", "exact", "tail"))  # fmt: skip
    val_fraction: float = option(0.05, "share held out for validation", minimum=0, maximum=1)
    test_fraction: float = option(0.05, "share held out for the test", minimum=0, maximum=1)
    limit: int | None = option(None, "read at most this many examples to train on", minimum=1)


@dataclass
class Pydocs(Data):
    kind: str = "pydocs"
    packages: list[str] = option(["all"], "'stdlib', names of packages, or 'all': stdlib and every dependency")
    unseen: list[str] = option(["fsspec", "networkx", "wandb"], "packages never trained on, for a test on what is new")


@dataclass
class Cldr(Data):
    kind: str = "cldr"
    split: str = option("exact", "see Data.split", choices=("exact", "tail"))
    src: str = option("en", "source locale, any that Babel knows")
    tgt: str = option("de", "target locale, any that Babel knows")
    examples: int = option(20000, "distinct phrases to draw", minimum=10)


@dataclass
class Files(Data):
    kind: str = "files"
    path: Any = option(MISSING, "file, folder or glob; [source, target] for two parallel line files")
    val_path: Any = option(None, "the same for validation; null: a share of path")
    test_path: Any = option(None, "the same for the test; null: a share of path")
    fields: dict[str, str] = option({}, "our name of a field to the file's name of it, {source: article}")
    encoding: str = option("utf-8", "character encoding of text files")


@dataclass
class Hub(Data):
    kind: str = "hub"
    name: str = option(MISSING, "data set name on the hub, or a folder written by save_to_disk")
    config: str | None = option(None, "configuration of that data set")
    fields: dict[str, str] = option({}, "our name of a field to the data set's name of it")


@dataclass
class Tokenizer:
    kind: str = option(MISSING, "which tokenizer: the tokenizer group's name")


@dataclass
class Bpe(Tokenizer):
    kind: str = "bpe"
    vocab_size: int = option(4096, "entries, special tokens included", minimum=262)
    train_characters: int = option(20_000_000, "characters of the training split it is trained on", minimum=1)


@dataclass
class Char(Tokenizer):
    kind: str = "char"
    train_characters: int = option(50_000_000, "characters of the training split it is read off", minimum=1)


@dataclass
class Byte(Tokenizer):
    kind: str = "byte"


@dataclass
class HuggingFace(Tokenizer):
    kind: str = "hf"
    name: str = option("gpt2", "hub name, or a folder with tokenizer files")


@dataclass
class Task:
    kind: str = option(MISSING, "which task: the task group's name")
    test_examples: int = option(400, "examples of a split that are generated and scored; 0: all", minimum=0)
    samples: int = option(8, "generated samples that are printed and kept", minimum=0, affects_result=False)
    archs: ClassVar[tuple[str, ...]] = ("decoder", "prefix", "encoder_decoder")  # values of model.arch that it works on
    starts_from_base: ClassVar[bool] = False  # where the model's shape fits the weights that gptexp brings
    classes: ClassVar[int] = 0  # of a whole sequence that are told apart, by a head of its own
    tags: ClassVar[int] = 0  # of a token that are told apart by an encoder, instead of the vocabulary


@dataclass
class Pretrain(Task):
    kind: str = "pretrain"
    archs = ("decoder", "prefix")
    document_mask: bool = option(False, "attention stays inside one document of a packed window")
    gap_sentences: float = option(0.0, "share of the documents, of those trained on, whose first sentence comes last, "
                                  "after a separator, as a summary does", minimum=0, maximum=1)  # fmt: skip
    renamed: float = option(0.0, "share of those whose names are exchanged, to be copied", minimum=0, maximum=1)
    max_new_tokens: int = option(64, "length of the samples", minimum=1)


@dataclass
class TextToText(Task):
    """Settings that summarize and translate share."""

    loss_on_prompt: bool = option(False, "learn to predict the source text too")
    max_target: int = option(64, "longest answer in tokens; the source is cut to what the context leaves", minimum=1)
    beams: int = option(1, "answers that are followed side by side; 1: greedy", minimum=1)
    length_penalty: float = option(1.0, "of beams: above 0 prefers long answers, below 0 short ones")
    no_repeat_ngram: int = option(0, "no n tokens in a row stand twice in an answer; 0: they may", minimum=0)


@dataclass
class Summarize(TextToText):
    kind: str = "summarize"
    starts_from_base = True


@dataclass
class Translate(TextToText):
    kind: str = "translate"
    max_target: int = option(120, "longest answer in tokens", minimum=1)


@dataclass
class Extract(TextToText):
    kind: str = "extract"
    starts_from_base = True
    tags = 3
    archs = ("encoder", "decoder", "prefix", "encoder_decoder")


@dataclass
class Masked(Task):
    """Settings that mlm and bert share."""

    mask_fraction: float = option(0.15, "share of the tokens that are to be predicted", minimum=0.01, maximum=0.9)
    whole_words: bool = option(False, "mask all tokens of a word together")
    archs = ("encoder",)


@dataclass
class Mlm(Masked):
    kind: str = "mlm"


@dataclass
class Nsp(Task):
    kind: str = "nsp"
    classes = 2
    archs = ("encoder",)


@dataclass
class Bert(Masked):
    kind: str = "bert"
    classes = 2


@dataclass
class Optim:
    kind: str = option(MISSING, "which optimizer: the optim group's name")
    lr: float | None = option(None, "peak learning rate; null: see RATES", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay of matrices", minimum=0)
    beta1: float = option(0.9, "AdamW: decay of the first moment", minimum=0, maximum=0.99999)
    beta2: float = option(0.95, "AdamW: decay of the second moment", minimum=0, maximum=0.99999)
    grad_clip: float = option(1.0, "largest norm of the gradient; 0: no clipping", minimum=0)
    schedule: str = option("linear", "shape of the decay", choices=("linear", "cosine", "constant"))
    warmup: int = option(10, "steps of linear warm-up", minimum=0)
    decay: float = option(0.6, "share of the steps, at the end, in which the rate decays", minimum=0, maximum=1)
    final_lr: float = option(0.0, "rate that the decay leads to, right after the last step, as a share of the peak",
                             minimum=0)  # fmt: skip
    lora_rank: int = option(0, "rank of low-rank adaptation of what init= names; 0: all is trained", minimum=0)
    lora_alpha: float = option(16.0, "scale of the adaptation, divided by its rank", minimum=0)
    lora_targets: list[str] = option(["query", "key", "value", "output"], "linear layers that are adapted",
                                     choices=("query", "key", "value", "output", "gate", "up", "down"))  # fmt: skip


# Peak learning rates; a run that starts from weights takes a tenth.
RATES = {"muon": {"lr": 0.02, "adamw_lr": 0.005}, "adamw": {"lr": 0.001}}


@dataclass
class Muon(Optim):
    kind: str = "muon"
    lr: float | None = option(None, "peak learning rate of the blocks' matrices; null: see RATES", minimum=0)
    momentum: float = option(0.95, "Muon's momentum", minimum=0, maximum=0.99999)
    adamw_lr: float | None = option(None, "peak rate of AdamW, for all others; null: see RATES", minimum=0)
    beta1: float = option(0.8, "AdamW: decay of the first moment", minimum=0, maximum=0.99999)


@dataclass
class AdamW(Optim):
    kind: str = "adamw"
    weight_decay: float = option(0.1, "decoupled weight decay of matrices", minimum=0)


@dataclass
class Trainer:
    max_steps: int = option(1000, "optimizer steps", minimum=1)
    global_batch: int = option(16, "sequences an optimizer step, over all devices", minimum=1)
    micro_batch: int | None = option(
        None, "sequences a device computes at once; null: all of its share", minimum=1, affects_result=False
    )
    devices: int = option(1, "processes on this machine, one a device", minimum=1, affects_result=False)
    nodes: int = option(1, "machines", minimum=1, affects_result=False)
    strategy: str = option("auto", "auto: ddp where there are several devices; fsdp: FSDP2, each holds a part",
                           choices=("auto", "ddp", "fsdp"), affects_result=False)  # fmt: skip
    accelerator: str = option("auto", "auto: a GPU where there is one",
                              choices=("auto", "cpu", "gpu"), affects_result=False)  # fmt: skip
    precision: str = option("auto", "auto: bf16 where the machine computes it natively", choices=("auto", "32", "bf16"))
    compile: bool = option(False, "torch.compile the blocks", affects_result=False)
    activation_checkpointing: bool = option(
        False, "compute activations again in the backward pass: slower, less memory", affects_result=False
    )
    deterministic: bool = option(
        False, "only deterministic kernels: exact repeats on a GPU too, slower", affects_result=False
    )
    skip_steps: list[int] = option([], "steps whose update is left out, for a batch that breaks the run")
    val_every: int = option(100, "steps between two passes over the validation split", minimum=1)
    log_every: int = option(10, "steps between two lines of metrics.jsonl", minimum=1, affects_result=False)
    checkpoint_every: int = option(100, "steps between two checkpoints", minimum=1, affects_result=False)
    keep_checkpoints: int = option(2, "newest checkpoints that are kept, beside the best", minimum=1,
                                   affects_result=False)  # fmt: skip
    sharded_checkpoints: bool = option(False, "fsdp: each rank writes its own part", affects_result=False)
    workers: int = option(0, "processes that prepare batches; 0: the training process", minimum=0, affects_result=False)
    progress: bool = option(True, "progress bar, or plain lines where there is no terminal", affects_result=False)


@dataclass
class Logger:
    kind: str = option("wandb", "where curves go beside metrics.jsonl",
                       choices=("wandb", "tensorboard", "csv", "none"), affects_result=False)  # fmt: skip
    project: str = option("gptexp", "W&B project", affects_result=False)
    entity: str | None = option(None, "W&B team or user", affects_result=False)
    group: str | None = option(None, "W&B group", affects_result=False)
    mode: str = option("auto", "W&B mode; auto: online with a key and a network",
                       choices=("auto", "online", "offline"), affects_result=False)  # fmt: skip


@dataclass
class Config:
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    task: Task = field(default_factory=Task)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    optim: Optim = field(default_factory=Optim)
    trainer: Trainer = field(default_factory=Trainer)
    logger: Logger = field(default_factory=Logger)
    seed: int = option(1, "everything random follows from it", minimum=0, maximum=2**63 - 1)
    init: str | None = option(None, "start from a run, an exported folder, a hub name, base (ours) or scratch",
                              affects_result=False)  # fmt: skip
    resume: str | None = option(None, "go on from the last checkpoint of this run folder, in a folder of its own",
                                affects_result=False)  # fmt: skip
    origin: str | None = option(None, "filled in: what the weights that init or resume names are, as a hash")
    accept: list[str] = option([], "differences to a checkpoint that are accepted: [data]", choices=("data",),
                               affects_result=False)  # fmt: skip
    fresh: bool = option(False, "put an earlier run of this config aside and start again", affects_result=False)
    name: str | None = option(None, "display name; null: the folder's", affects_result=False)
    tags: list[str] = option([], "tags in the dashboards", affects_result=False)
    outputs: str = option("outputs", "where run folders go", affects_result=False)
    cache: str | None = option(None, "where prepared data goes; null: $GPTEXP_CACHE or ~/.cache/gptexp",
                               affects_result=False)  # fmt: skip
