"""Settings of training: steps, batches, devices, checkpoints."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gptexp.config.group import GroupConfig
from gptexp.config.parallelism import check_context_parallel, check_processes, check_tensor_parallel
from gptexp.errors import UserError
from gptexp.extras import require_extra
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config

CHECKPOINT_MINUTES = 5.0  # of training that a kill may cost
PROFILE_WARM_UP_STEPS = 4  # of a process; the profiler sets itself up in the last of them


@dataclass
class TrainerConfig(GroupConfig):
    """Settings of training. It is the only group that has no choices."""

    config_group: ClassVar[str] = "trainer"
    max_steps: int = setting(1000, "number of optimizer steps", minimum=1)
    global_batch_size: int = setting(
        16, "sequences of one optimizer step, over all devices", minimum=1
    )
    micro_batch_size: int | None = setting(
        None,
        "sequences that a device computes at once; null: all of its part of the global batch",
        minimum=1,
        affects_result=False,
    )
    devices: int = setting(
        1, "processes on this machine, one per device", minimum=1, affects_result=False
    )
    nodes: int = setting(1, "number of machines", minimum=1, affects_result=False)
    strategy: str = setting(
        "auto",
        "auto: ddp on several devices; fsdp: FSDP2, which shards the weights; hsdp: fsdp on each machine",
        choices=("auto", "ddp", "fsdp", "hsdp"),
        affects_result=False,
    )
    reshard_after_forward: bool = setting(
        True,
        "fsdp, hsdp: free gathered weights until the backward pass: less memory, more exchange",
        affects_result=False,
    )
    cpu_offload: bool = setting(
        False,
        "fsdp, hsdp: keep weights and optimizer in the memory of the host: slow, for a GPU that is too small",
        affects_result=False,
    )
    tensor_parallel: int = setting(
        1,
        "processes in a row that divide the matrices of each block among them; needs strategy=fsdp",
        minimum=1,
        affects_result=False,
    )
    context_parallel: int = setting(
        1,
        "groups of them in a row that divide each sequence among them; for task=pretrain",
        minimum=1,
        affects_result=False,
    )
    accelerator: str = setting(
        "auto",
        "auto: a GPU where there is one",
        choices=("auto", "cpu", "gpu"),
        affects_result=False,
    )
    precision: str = setting(
        "auto",
        "auto: bf16 where the hardware computes it natively; float8: bf16, but float8 in the products of blocks, "
        "which needs gptexp[float8]",
        choices=("auto", "32", "bf16", "float8"),
    )
    compile: str = setting(
        "auto",
        "compile blocks and loss with torch.compile; auto: on a GPU, where a compiler is and the training is long "
        "enough to pay for it; unless it is false, the steps of small models on one GPU are CUDA graphs",
        choices=("auto", "true", "false"),
        affects_result=False,
    )
    activation_checkpointing: str = setting(
        "none",
        "recompute activations in the backward pass, slower with less memory. full or true: those of whole blocks; "
        "selective: all but matrix products and attention; none or false: keep all",
        choices=("none", "selective", "full", "true", "false"),
        affects_result=False,
    )
    activation_memory_budget: float | None = setting(
        None,
        "fraction of a block's activations that the compiler keeps for the backward pass; null: all; "
        "needs compile=true",
        minimum=0,
        maximum=1,
        affects_result=False,
    )
    deterministic: bool = setting(
        False,
        "use only deterministic kernels, which repeat results exactly on a GPU too but are slower",
        affects_result=False,
    )
    skip_steps: list[int] = setting(
        [], "steps whose update is skipped, for a batch that breaks the run"
    )
    val_every: int = setting(100, "steps between two validations", minimum=1)
    val_tokens: int | None = setting(
        1_000_000,
        "tokens of the validation split that a validation reads, from sequences spread evenly over a larger split; "
        "null: all of them",
        minimum=1,
    )
    log_every: int = setting(
        10, "steps between two lines of metrics.jsonl", minimum=1, affects_result=False
    )
    checkpoint_every: int | None = setting(
        None,
        "steps between two checkpoints; with checkpoint_minutes, the first of both counts",
        minimum=1,
        affects_result=False,
    )
    checkpoint_minutes: float | None = setting(
        None,
        f"minutes between two checkpoints; null: {CHECKPOINT_MINUTES:g}, or never with checkpoint_every",
        minimum=0,
        affects_result=False,
    )
    keep_checkpoints: int = setting(
        2,
        "number of newest checkpoints to keep, in addition to the best one",
        minimum=1,
        affects_result=False,
    )
    sharded_checkpoints: bool = setting(
        False, "fsdp, hsdp: each rank writes its own shard", affects_result=False
    )
    num_workers: int = setting(
        0,
        "processes that prepare batches for each device; 0: the training process does",
        minimum=0,
        affects_result=False,
    )
    progress: bool = setting(
        True, "show a progress bar, or plain lines outside of a terminal", affects_result=False
    )

    profile: int | None = setting(
        None,
        "steps to profile, after the first ones, into trace.json.gz and profile.txt; null: none",
        minimum=1,
        maximum=100,
        affects_result=False,
    )

    def __post_init__(self) -> None:
        # YAML reads true and false as booleans.
        self.compile = str(self.compile).lower()
        recomputes = str(self.activation_checkpointing).lower()
        self.activation_checkpointing = {"true": "full", "false": "none"}.get(
            recomputes, recomputes
        )

    @property
    def processes_per_sequence(self) -> int:
        """Processes that compute the same sequences together."""
        return self.tensor_parallel * self.context_parallel

    def resolve(self, config: "Config") -> None:
        if self.checkpoint_every is None and self.checkpoint_minutes is None:
            self.checkpoint_minutes = CHECKPOINT_MINUTES

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a part of every matrix."""
        return self.strategy in ("fsdp", "hsdp")

    def check(self, config: "Config") -> None:
        for name, is_default in (
            ("reshard_after_forward", self.reshard_after_forward),
            ("cpu_offload", not self.cpu_offload),
        ):
            if not (is_default or self.is_sharded):
                raise UserError(
                    f"trainer.{name}={str(getattr(self, name)).lower()} is for sharded weights: "
                    f"add trainer.strategy=fsdp, or leave it out"
                )
        if self.cpu_offload and self.accelerator == "cpu":
            raise UserError(
                "trainer.cpu_offload=true relieves the memory of a GPU, and trainer.accelerator=cpu uses none; "
                "leave out one of them"
            )
        if self.profile and self.profile + PROFILE_WARM_UP_STEPS > self.max_steps:
            raise UserError(
                f"trainer.profile={self.profile}: the first {PROFILE_WARM_UP_STEPS} steps are not profiled, so it "
                f"needs trainer.max_steps={self.profile + PROFILE_WARM_UP_STEPS} or more, not {self.max_steps}"
            )
        if self.precision == "float8":
            self._check_float8(config)
        if self.activation_memory_budget is not None:
            self._check_memory_budget(self.activation_memory_budget)
        if self.tensor_parallel > 1:
            check_tensor_parallel(config)
        if self.context_parallel > 1:
            check_context_parallel(config)
        # torchrun and srun bring their own number of processes, whatever trainer.devices says.
        if self.devices * self.nodes > 1 or self.processes_per_sequence == 1:
            check_processes(config)

    def _check_memory_budget(self, budget: float) -> None:
        word = f"trainer.activation_memory_budget={budget:g}"
        if self.compile != "true":
            raise UserError(f"{word}: the compiler keeps to it; add trainer.compile=true")
        if self.activation_checkpointing != "none":
            raise UserError(
                f"{word}: does not go together with "
                f"trainer.activation_checkpointing={self.activation_checkpointing}; give one of them"
            )

    def _check_float8(self, config: "Config") -> None:
        word = "trainer.precision=float8"
        require_extra("float8", ["torchao"])
        if self.tensor_parallel > 1:
            raise UserError(f"{word}: matrices are not divided; use trainer.tensor_parallel=1")
        if config.optim.lora_rank:
            raise UserError(f"{word}: is for the training of all weights; use optim.lora_rank=0")
