"""Settings of the optimizers."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.errors import UserError
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config


@dataclass
class OptimConfig(GroupConfig):
    """Settings of every optimizer.

    `target` is called with (config, named_parameters, device) and returns a list of optimizers. A `_target_` is a class
    of torch's kind, built with (params, ...).
    """

    config_group: ClassVar[str] = "optim"
    passed: ClassVar[tuple[str, ...]] = ("params",)
    default_rates: ClassVar[dict[str, float]] = {}  # peak learning rates where the setting is null
    kind: str = setting(MISSING, "name of the chosen optimizer: optim=NAME")
    grad_clip: float = setting(1.0, "largest norm of the gradient; 0: no clipping", minimum=0)
    lora_rank: int = setting(
        0,
        "rank of the LoRA adapters on the weights of init; 0: train all weights instead",
        minimum=0,
    )
    lora_alpha: float = setting(
        16.0, "the adapters' output is multiplied by lora_alpha / lora_rank", minimum=0
    )
    lora_targets: list[str] = setting(
        ["query", "key", "value", "output"],
        "linear layers that get a LoRA adapter",
        choices=("query", "key", "value", "output", "gate", "up", "down"),
    )

    def resolve(self, config: "Config") -> None:
        if not config.resume:  # a resumed run keeps the rates of the run that it names
            self.fill_rates(config)

    def fill_rates(self, config: "Config", earlier: "OptimConfig | None" = None) -> None:
        """Set the learning rates that are null to those of an earlier run, or to their defaults.

        A run that starts from trained weights takes a tenth of the defaults, and from base the share that the task
        names. LoRA adapters are new weights, and take the defaults. A task may have defaults of its own.
        """
        scale = 1.0
        if config.init and not self.lora_rank:
            scale = config.task.base_rate_scale if config.init == "base" else 0.1
        defaults = self.default_rates | config.task.default_rates.get(self.kind, {})
        for name, rate in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, getattr(earlier, name, scale * rate))

    def learning_rates(self) -> list[str]:
        """Return the names of the settings that are peak learning rates: `lr`, and those that end with `_lr`."""
        return [item.name for item in fields(self) if f"_{item.name}".endswith("_lr")]

    def check(self, config: "Config") -> None:
        if not self.lora_rank:
            return
        if not (config.init or config.resume):
            raise UserError(
                f"optim.lora_rank={self.lora_rank}: adapters need trained weights; name them with init=..."
            )
        if not self.lora_targets:
            raise UserError(
                "optim.lora_targets=[]: name the layers that are adapted, for example [query,value]"
            )
        layers = config.model.adaptable_layers()
        if unknown := [name for name in self.lora_targets if name not in layers]:
            raise UserError(
                f"optim.lora_targets: this model has no layer {unknown[0]} that can be adapted. "
                f"Allowed: {', '.join(layers)}"
            )


@register
@dataclass
class MuonConfig(OptimConfig):
    kind: str = "muon"
    target = "gptexp.training.optimizers:build_muon"
    default_rates: ClassVar[dict[str, float]] = {"lr": 0.02, "adamw_lr": 0.005}
    lr: float | None = setting(
        None,
        "peak learning rate of Muon for the blocks' matrices; null: 0.02 (task=nsp and task=bert: 0.004, "
        "task=prefer: 0.002), "
        "or a tenth of it from trained weights (task=chat from base: half)",
        minimum=0,
    )
    weight_decay: float = setting(0.0, "decoupled weight decay of matrices", minimum=0)
    momentum: float = setting(0.95, "momentum of Muon", minimum=0, maximum=0.99999)
    adamw_lr: float | None = setting(
        None,
        "peak learning rate of AdamW for all other weights; null: 0.005 (task=nsp: 0.002, task=bert: 0.004, "
        "task=prefer: 0.0005), "
        "or a tenth of it from trained weights (task=chat from base: half)",
        minimum=0,
    )
    beta1: float = setting(0.8, "AdamW: decay of the first moment", minimum=0, maximum=0.99999)
    beta2: float = setting(0.95, "AdamW: decay of the second moment", minimum=0, maximum=0.99999)

    def check(self, config: "Config") -> None:
        if self.lora_rank:
            raise UserError(f"optim.lora_rank={self.lora_rank}: adapters need optim=adamw")


@register
@dataclass
class AdamWConfig(OptimConfig):
    kind: str = "adamw"
    target = "gptexp.training.optimizers:build_adamw"
    default_rates: ClassVar[dict[str, float]] = {"lr": 0.001}
    lr: float | None = setting(
        None,
        "peak learning rate; null: 0.001 (task=prefer: 0.0005), or a tenth of it from trained weights",
        minimum=0,
    )
    weight_decay: float = setting(0.1, "decoupled weight decay of matrices", minimum=0)
    beta1: float = setting(0.9, "decay of the first moment", minimum=0, maximum=0.99999)
    beta2: float = setting(0.95, "decay of the second moment", minimum=0, maximum=0.99999)
