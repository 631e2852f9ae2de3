"""Every setting of a run: type, default, allowed values and one line of documentation.

The YAML files under conf/ state only differences from these defaults. `option(..., affects_result=False)`
marks what cannot change what a run computes: it is left out of the run's id (see identity.py).
"""

from dataclasses import dataclass, field

from gptexp.config.option import option
from gptexp.config.schema.data import (
    Bpe,
    Byte,
    Char,
    Cldr,
    Data,
    Files,
    Hub,
    HuggingFace,
    Images,
    Pydocs,
    Recordings,
    Scenes,
    Spoken,
    Table,
    Tokenizer,
)
from gptexp.config.schema.model import Model
from gptexp.config.schema.task import (
    Bert,
    Caption,
    Extract,
    Masked,
    Mlm,
    Nsp,
    Pretrain,
    Speak,
    Summarize,
    Task,
    TextToText,
    Translate,
)
from gptexp.config.schema.training import RATES, AdamW, Logger, Muon, Optim, Trainer

__all__ = [
    "RATES",
    "AdamW",
    "Bert",
    "Bpe",
    "Byte",
    "Caption",
    "Char",
    "Cldr",
    "Config",
    "Data",
    "Extract",
    "Files",
    "Hub",
    "HuggingFace",
    "Images",
    "Logger",
    "Masked",
    "Mlm",
    "Model",
    "Muon",
    "Nsp",
    "Optim",
    "Pretrain",
    "Pydocs",
    "Recordings",
    "Scenes",
    "Speak",
    "Spoken",
    "Summarize",
    "Table",
    "Task",
    "TextToText",
    "Tokenizer",
    "Trainer",
    "Translate",
]


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
