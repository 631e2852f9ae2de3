"""Every setting of a run: type, default, allowed values and one line of documentation.

The YAML files under conf/ state only differences from these defaults. The rules of one group are methods of its
settings class; the rules of Config involve several groups.
"""

from dataclasses import dataclass, field
from typing import Any

from gptexp.config.base_weights import default_init
from gptexp.config.callbacks import check_arguments
from gptexp.config.group import GroupConfig
from gptexp.config.plugins import (
    folders_of,
    make_importable,
    modules_of,
    outside_targets,
    plugins_of,
)
from gptexp.config.schema.data import (
    ChatsConfig,
    CldrConfig,
    DataConfig,
    DebianConfig,
    DocumentedPackagesConfig,
    FilesConfig,
    GeneratedConfig,
    HubConfig,
    MediaTableConfig,
    PreferencesConfig,
    PydocsConfig,
    RecordsConfig,
    TableConfig,
    TokensConfig,
)
from gptexp.config.schema.logger import (
    CsvConfig,
    LoggerConfig,
    NoLoggerConfig,
    TensorBoardConfig,
    WandbConfig,
)
from gptexp.config.schema.mixture import MixtureConfig
from gptexp.config.schema.model import ModelConfig
from gptexp.config.schema.optim import AdamWConfig, MuonConfig, OptimConfig
from gptexp.config.schema.schedule import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig
from gptexp.config.schema.task import (
    BertConfig,
    ChatConfig,
    ExtractConfig,
    MaskedLMConfig,
    MlmConfig,
    NspConfig,
    PreferConfig,
    PretrainConfig,
    SummarizeConfig,
    TaskConfig,
    TextToTextConfig,
    TranslateConfig,
)
from gptexp.config.schema.tokenizer import (
    BpeConfig,
    ByteConfig,
    CharConfig,
    HFTokenizerConfig,
    TokenizerConfig,
)
from gptexp.config.schema.trainer import TrainerConfig
from gptexp.config.signature import find_definition
from gptexp.errors import UserError
from gptexp.setting_field import setting

__all__ = [
    "AdamWConfig",
    "BertConfig",
    "BpeConfig",
    "ByteConfig",
    "CharConfig",
    "ChatConfig",
    "ChatsConfig",
    "CldrConfig",
    "Config",
    "ConstantConfig",
    "CosineConfig",
    "CsvConfig",
    "DataConfig",
    "DebianConfig",
    "DocumentedPackagesConfig",
    "ExtractConfig",
    "FilesConfig",
    "GeneratedConfig",
    "GroupConfig",
    "HFTokenizerConfig",
    "HubConfig",
    "LinearConfig",
    "LoggerConfig",
    "MaskedLMConfig",
    "MediaTableConfig",
    "MixtureConfig",
    "MlmConfig",
    "ModelConfig",
    "MuonConfig",
    "NoLoggerConfig",
    "NspConfig",
    "OptimConfig",
    "PreferConfig",
    "PreferencesConfig",
    "PretrainConfig",
    "PydocsConfig",
    "RecordsConfig",
    "ScheduleConfig",
    "SummarizeConfig",
    "TableConfig",
    "TaskConfig",
    "TensorBoardConfig",
    "TextToTextConfig",
    "TokenizerConfig",
    "TokensConfig",
    "TrainerConfig",
    "TranslateConfig",
    "WandbConfig",
]

MAX_SEED = 2**63 - 1


@dataclass
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = setting(1, "seed of everything random", minimum=0, maximum=MAX_SEED)
    seeds: int = setting(
        1,
        "number of runs, with seed, seed + 1, ...; their table has the mean, deviation and 95 % interval of metrics",
        minimum=1,
        affects_result=False,
    )
    init: str | None = setting(
        None,
        "weights to start from: a run, an exported folder, a hub name, base (shipped with gptexp), or scratch for "
        "random ones; null: base where it fits the run",
        affects_result=False,
    )
    resume: str | None = setting(
        None,
        "run whose last checkpoint to continue from, in a new run folder",
        affects_result=False,
    )
    init_digest: str | None = setting(
        None, "filled in: hash of the weights that init or resume names"
    )
    allow_mismatch: list[str] = setting(
        [],
        "what may differ between the run and the checkpoint that it continues from: [data]",
        choices=("data",),
        affects_result=False,
    )
    fresh: bool = setting(
        False, "archive an earlier run of this config and train it again", affects_result=False
    )
    callbacks: dict[str, Any] = setting(
        {}, "Lightning callbacks: NAME: {_target_: my_package.MyCallback, argument: value}"
    )
    callbacks_digest: str | None = setting(
        None, "filled in: hash of the callback objects that gptexp.train takes"
    )
    plugins: list[str] = setting(
        [],
        "modules to import that register settings classes or have a conf/ folder",
        affects_result=False,
    )
    plugin_folders: list[str] = setting(
        [], "filled in: folders of the modules that are not installed", affects_result=False
    )
    name: str | None = setting(
        None, "display name; null: the name of the run folder", affects_result=False
    )
    tags: list[str] = setting([], "tags of the run in W&B", affects_result=False)
    outputs: str = setting(
        "outputs", "folder that the run folders are written to", affects_result=False
    )
    cache: str | None = setting(
        None,
        "folder of prepared data; null: $GPTEXP_CACHE or ~/.cache/gptexp",
        affects_result=False,
    )

    def resolve(self) -> None:
        """Fill in the settings that follow from others."""
        self.callbacks = {
            name: check_arguments(f"callbacks.{name}", settings)
            for name, settings in self.callbacks.items()
        }
        for group in self.groups():
            if group is self.optim:
                self.init = default_init(self)  # depends on the model; learning rates depend on it
            group.resolve(self)
        for target in outside_targets(self):
            make_importable(target)
        self.find_plugins()

    def find_plugins(self) -> None:
        """Fill in the plugins of the groups, and where they are."""
        self.plugins = plugins_of(self)
        self.plugin_folders = folders_of(modules_of(self))

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            UserError: two settings contradict each other.
        """
        if not self.outputs.strip():
            raise UserError("outputs=: is empty; give a folder, such as outputs=outputs")
        for group in self.groups():
            group.check(self)
        for target in outside_targets(self):
            find_definition(target)
        if self.init and self.resume:
            raise UserError(
                "init= starts a new training from weights, resume= continues an old one: give one of them"
            )

    @property
    def num_sequences(self) -> int:
        """Sequences that the run trains on."""
        return self.trainer.max_steps * self.trainer.global_batch_size

    def groups(self) -> list[GroupConfig]:
        """Return the settings of each group."""
        return [value for value in vars(self).values() if isinstance(value, GroupConfig)]
