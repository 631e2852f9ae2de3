"""Every setting of a run: type, default, allowed values and one line of documentation.

The YAML files under conf/ state only differences from these defaults. `option(..., affects_result=False)`
marks what cannot change what a run computes: it is left out of the run's id (see identity.py).
"""

from dataclasses import dataclass, field

from gptexp.config.schema.data import (
    BpeConfig,
    ByteConfig,
    CharConfig,
    CldrConfig,
    DataConfig,
    FilesConfig,
    HFTokenizerConfig,
    HubConfig,
    ImagesConfig,
    MediaTableConfig,
    PydocsConfig,
    RecordingsConfig,
    ScenesConfig,
    SpokenConfig,
    TokenizerConfig,
)
from gptexp.config.schema.model import ModelConfig
from gptexp.config.schema.task import (
    BertConfig,
    CaptionConfig,
    ExtractConfig,
    MaskedLMConfig,
    MlmConfig,
    NspConfig,
    PretrainConfig,
    SpeakConfig,
    SummarizeConfig,
    TaskConfig,
    TextToTextConfig,
    TranslateConfig,
)
from gptexp.config.schema.training import (
    RATES,
    AdamWConfig,
    LoggerConfig,
    MuonConfig,
    OptimConfig,
    TrainerConfig,
)
from gptexp.config.setting import option

__all__ = [
    "RATES",
    "AdamWConfig",
    "BertConfig",
    "BpeConfig",
    "ByteConfig",
    "CaptionConfig",
    "CharConfig",
    "CldrConfig",
    "Config",
    "DataConfig",
    "ExtractConfig",
    "FilesConfig",
    "HFTokenizerConfig",
    "HubConfig",
    "ImagesConfig",
    "LoggerConfig",
    "MaskedLMConfig",
    "MediaTableConfig",
    "MlmConfig",
    "ModelConfig",
    "MuonConfig",
    "NspConfig",
    "OptimConfig",
    "PretrainConfig",
    "PydocsConfig",
    "RecordingsConfig",
    "ScenesConfig",
    "SpeakConfig",
    "SpokenConfig",
    "SummarizeConfig",
    "TaskConfig",
    "TextToTextConfig",
    "TokenizerConfig",
    "TrainerConfig",
    "TranslateConfig",
]


@dataclass
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = option(1, "everything random follows from it", minimum=0, maximum=2**63 - 1)
    init: str | None = option(
        None,
        "start from a run, an exported folder, a hub name, base (ours) or scratch",
        affects_result=False,
    )
    resume: str | None = option(
        None,
        "go on from the last checkpoint of this run folder, in a folder of its own",
        affects_result=False,
    )
    init_digest: str | None = option(
        None, "filled in: what the weights that init or resume names are, as a hash"
    )
    allow_mismatch: list[str] = option(
        [],
        "differences to a checkpoint that are accepted: [data]",
        choices=("data",),
        affects_result=False,
    )
    fresh: bool = option(
        False, "put an earlier run of this config aside and start again", affects_result=False
    )
    name: str | None = option(None, "display name; null: the folder's", affects_result=False)
    tags: list[str] = option([], "tags in the dashboards", affects_result=False)
    outputs: str = option("outputs", "where run folders go", affects_result=False)
    cache: str | None = option(
        None,
        "where prepared data goes; null: $GPTEXP_CACHE or ~/.cache/gptexp",
        affects_result=False,
    )
