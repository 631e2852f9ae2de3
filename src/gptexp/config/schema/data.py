"""Settings of the sources of examples, and of tokenizers."""

from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from gptexp.config.setting import option


@dataclass
class DataConfig:
    kind: str = option(MISSING, "which source: the data group's name")
    target: ClassVar[str]  # MODULE:CLASS that reads it
    split: str = option(
        "near",
        "near: near-duplicates stay on one side; exact: equal texts; tail: the end is held out",
        choices=("near", "exact", "tail"),
    )
    val_fraction: float = option(0.05, "share held out for validation", minimum=0, maximum=1)
    test_fraction: float = option(0.05, "share held out for the test", minimum=0, maximum=1)
    limit: int | None = option(None, "read at most this many examples to train on", minimum=1)


@dataclass
class PydocsConfig(DataConfig):
    kind: str = "pydocs"
    target = "gptexp.data.corpora.pydocs:Pydocs"
    packages: list[str] = option(
        ["all"], "'stdlib', names of packages, or 'all': stdlib and every dependency"
    )
    unseen: list[str] = option(
        ["fsspec", "networkx", "wandb"], "packages never trained on, for a test on what is new"
    )


@dataclass
class GeneratedConfig(DataConfig):
    """Of examples that are made, none are near-duplicates by accident."""

    split: str = option(
        "exact",
        "exact: equal texts stay on one side; tail: the end is held out",
        choices=("exact", "tail"),
    )


@dataclass
class CldrConfig(GeneratedConfig):
    kind: str = "cldr"
    target = "gptexp.data.corpora.cldr:Cldr"
    src: str = option("en", "source locale, any that Babel knows")
    tgt: str = option("de", "target locale, any that Babel knows")
    examples: int = option(20000, "distinct phrases to draw", minimum=10)


@dataclass
class FilesConfig(DataConfig):
    kind: str = "files"
    target = "gptexp.data.corpora.files:Files"
    path: Any = option(
        MISSING, "file, folder or glob; [source, target] for two parallel line files"
    )
    val_path: Any = option(None, "the same for validation; null: a share of path")
    test_path: Any = option(None, "the same for the test; null: a share of path")
    fields: dict[str, str] = option(
        {}, "our name of a field to the file's name of it, {source: article}"
    )
    encoding: str = option("utf-8", "character encoding of text files")


@dataclass
class HubConfig(DataConfig):
    kind: str = "hub"
    target = "gptexp.data.corpora.hub:Hub"
    name: str = option(MISSING, "data set name on the hub, or a folder written by save_to_disk")
    config: str | None = option(None, "configuration of that data set")
    fields: dict[str, str] = option({}, "our name of a field to the data set's name of it")


@dataclass
class ScenesConfig(GeneratedConfig):
    kind: str = "scenes"
    target = "gptexp.data.corpora.scenes:Scenes"
    level: str = option(
        "one",
        "one: a thing and its place; mixed: also relations and numbers; video: clips",
        choices=("one", "mixed", "video"),
    )
    examples: int = option(12000, "pictures to draw, the unseen pairs included", minimum=100)


@dataclass
class SpokenConfig(GeneratedConfig):
    kind: str = "spoken"
    target = "gptexp.data.corpora.spoken:Spoken"
    content: str = option("numbers", "what is spoken", choices=("numbers", "dates"))
    voices: list[str] = option(["en-us", "en-us+f2", "en+m3"], "voices of espeak-ng, in turns")
    examples: int = option(4000, "texts to speak, each once", minimum=100)


@dataclass
class MediaTableConfig(DataConfig):
    """Files of media with a table of their texts."""

    path: str = option(
        MISSING, "table of files and texts (csv, jsonl, parquet), or the folder that it is in"
    )
    fields: dict[str, str] = option({}, "our name of a field to the table's name of it")
    encoding: str = option("utf-8", "character encoding of the table")


@dataclass
class ImagesConfig(MediaTableConfig):
    kind: str = "images"
    target = "gptexp.data.corpora.images:Images"


@dataclass
class RecordingsConfig(MediaTableConfig):
    kind: str = "recordings"
    target = "gptexp.data.corpora.recordings:Recordings"


@dataclass
class TokenizerConfig:
    kind: str = option(MISSING, "which tokenizer: the tokenizer group's name")


@dataclass
class BpeConfig(TokenizerConfig):
    kind: str = "bpe"
    vocab_size: int = option(4096, "entries, special tokens included", minimum=262)
    train_characters: int = option(
        20_000_000, "characters of the training split it is trained on", minimum=1
    )


@dataclass
class CharConfig(TokenizerConfig):
    kind: str = "char"
    train_characters: int = option(
        50_000_000, "characters of the training split it is read off", minimum=1
    )


@dataclass
class ByteConfig(TokenizerConfig):
    kind: str = "byte"


@dataclass
class HFTokenizerConfig(TokenizerConfig):
    kind: str = "hf"
    name: str = option("gpt2", "hub name, or a folder with tokenizer files")
