"""Settings of optimizers, of training and of loggers."""

from dataclasses import dataclass

from omegaconf import MISSING

from gptexp.config.setting import option


@dataclass
class OptimConfig:
    kind: str = option(MISSING, "which optimizer: the optim group's name")
    lr: float | None = option(None, "peak learning rate; null: see RATES", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay of matrices", minimum=0)
    beta1: float = option(0.9, "AdamW: decay of the first moment", minimum=0, maximum=0.99999)
    beta2: float = option(0.95, "AdamW: decay of the second moment", minimum=0, maximum=0.99999)
    grad_clip: float = option(1.0, "largest norm of the gradient; 0: no clipping", minimum=0)
    schedule: str = option("linear", "shape of the decay", choices=("linear", "cosine", "constant"))
    warmup_steps: int = option(10, "steps of linear warm-up", minimum=0)
    decay_fraction: float = option(
        0.6, "share of the steps, at the end, in which the rate decays", minimum=0, maximum=1
    )
    final_lr_fraction: float = option(
        0.0,
        "rate that the decay leads to, right after the last step, as a share of the peak",
        minimum=0,
    )
    lora_rank: int = option(
        0, "rank of low-rank adaptation of what init= names; 0: all is trained", minimum=0
    )
    lora_alpha: float = option(16.0, "scale of the adaptation, divided by its rank", minimum=0)
    lora_targets: list[str] = option(
        ["query", "key", "value", "output"],
        "linear layers that are adapted",
        choices=("query", "key", "value", "output", "gate", "up", "down"),
    )


# Peak learning rates; a run that starts from weights takes a tenth.
RATES = {"muon": {"lr": 0.02, "adamw_lr": 0.005}, "adamw": {"lr": 0.001}}


@dataclass
class MuonConfig(OptimConfig):
    kind: str = "muon"
    lr: float | None = option(
        None, "peak learning rate of the blocks' matrices; null: see RATES", minimum=0
    )
    momentum: float = option(0.95, "Muon's momentum", minimum=0, maximum=0.99999)
    adamw_lr: float | None = option(
        None, "peak rate of AdamW, for all others; null: see RATES", minimum=0
    )
    beta1: float = option(0.8, "AdamW: decay of the first moment", minimum=0, maximum=0.99999)


@dataclass
class AdamWConfig(OptimConfig):
    kind: str = "adamw"
    weight_decay: float = option(0.1, "decoupled weight decay of matrices", minimum=0)


@dataclass
class TrainerConfig:
    max_steps: int = option(1000, "optimizer steps", minimum=1)
    global_batch_size: int = option(16, "sequences an optimizer step, over all devices", minimum=1)
    micro_batch_size: int | None = option(
        None,
        "sequences a device computes at once; null: all of its share",
        minimum=1,
        affects_result=False,
    )
    devices: int = option(
        1, "processes on this machine, one a device", minimum=1, affects_result=False
    )
    nodes: int = option(1, "machines", minimum=1, affects_result=False)
    strategy: str = option(
        "auto",
        "auto: ddp where there are several devices; fsdp: FSDP2, each holds a part",
        choices=("auto", "ddp", "fsdp"),
        affects_result=False,
    )
    accelerator: str = option(
        "auto",
        "auto: a GPU where there is one",
        choices=("auto", "cpu", "gpu"),
        affects_result=False,
    )
    precision: str = option(
        "auto", "auto: bf16 where the machine computes it natively", choices=("auto", "32", "bf16")
    )
    compile: bool = option(False, "torch.compile the blocks", affects_result=False)
    activation_checkpointing: bool = option(
        False,
        "compute activations again in the backward pass: slower, less memory",
        affects_result=False,
    )
    deterministic: bool = option(
        False,
        "only deterministic kernels: exact repeats on a GPU too, slower",
        affects_result=False,
    )
    skip_steps: list[int] = option(
        [], "steps whose update is left out, for a batch that breaks the run"
    )
    val_every: int = option(100, "steps between two passes over the validation split", minimum=1)
    log_every: int = option(
        10, "steps between two lines of metrics.jsonl", minimum=1, affects_result=False
    )
    checkpoint_every: int = option(
        100, "steps between two checkpoints", minimum=1, affects_result=False
    )
    keep_checkpoints: int = option(
        2, "newest checkpoints that are kept, beside the best", minimum=1, affects_result=False
    )
    sharded_checkpoints: bool = option(
        False, "fsdp: each rank writes its own part", affects_result=False
    )
    num_workers: int = option(
        0,
        "processes that prepare batches; 0: the training process",
        minimum=0,
        affects_result=False,
    )
    progress: bool = option(
        True, "progress bar, or plain lines where there is no terminal", affects_result=False
    )


@dataclass
class LoggerConfig:
    kind: str = option(
        "wandb",
        "where curves go beside metrics.jsonl",
        choices=("wandb", "tensorboard", "csv", "none"),
        affects_result=False,
    )
    project: str = option("gptexp", "W&B project", affects_result=False)
    entity: str | None = option(None, "W&B team or user", affects_result=False)
    group: str | None = option(None, "W&B group", affects_result=False)
    mode: str = option(
        "auto",
        "W&B mode; auto: online with a key and a network",
        choices=("auto", "online", "offline"),
        affects_result=False,
    )
