"""Settings of the sources of examples."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.errors import UserError
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config


@dataclass
class DataConfig(GroupConfig):
    """Settings of every source. `target` is a Corpus, built with (config, fields, cache)."""

    config_group: ClassVar[str] = "data"
    passed: ClassVar[tuple[str, ...]] = ("config", "fields", "cache")
    kind: str = setting(MISSING, "name of the chosen data source: data=NAME")
    split: str = setting(
        "near",
        "near: near-duplicates stay in one split; exact: equal texts stay in one split; tail: the end is held out",
        choices=("near", "exact", "tail"),
    )
    val_fraction: float = setting(0.05, "fraction held out for validation", minimum=0, maximum=1)
    test_fraction: float = setting(0.05, "fraction held out for the test", minimum=0, maximum=1)
    limit: int | None = setting(None, "train on at most this many examples", minimum=1)

    def check(self, config: "Config") -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction}, data.test_fraction={self.test_fraction}: "
                f"their sum must be less than 1"
            )


@register
@dataclass
class PydocsConfig(DataConfig):
    kind: str = "pydocs"
    target = "gptexp.data.corpora.pydocs:Pydocs"
    packages: list[str] = setting(
        ["all"],
        "names of installed packages, 'stdlib', or 'all': stdlib and every dependency of gptexp",
    )
    unseen: list[str] = setting(
        ["fsspec", "networkx", "wandb"],
        "packages that are never trained on: they are the split `unseen`",
    )


@dataclass
class GeneratedConfig(DataConfig):
    """Settings of sources that generate their examples, among which near-duplicates are intended."""

    split: str = setting(
        "exact",
        "exact: equal texts stay in one split; tail: the end is held out",
        choices=("exact", "tail"),
    )


@register
@dataclass
class CldrConfig(GeneratedConfig):
    kind: str = "cldr"
    target = "gptexp.data.corpora.cldr:Cldr"
    src: str = setting("en", "source locale, any that Babel knows")
    tgt: str = setting("de", "target locale, any that Babel knows")
    examples: int = setting(20000, "number of distinct phrases", minimum=10)


@register
@dataclass
class FilesConfig(DataConfig):
    kind: str = "files"
    target = "gptexp.data.corpora.files:Files"
    path: Any = setting(
        MISSING, "file, folder or glob; [source,target] for two parallel line files", texts=True
    )
    val_path: Any = setting(None, "files for validation; null: a fraction of path", texts=True)
    test_path: Any = setting(None, "files for the test; null: a fraction of path", texts=True)
    fields: dict[str, str] = setting(
        {}, "names that the task's fields have in the file, for example {source: article}"
    )
    encoding: str = setting("utf-8", "character encoding of text files")

    def resolve(self, config: "Config") -> None:
        """Make the paths absolute, so that the run's config means the same from any folder."""
        self.path = absolute_path(self.path, "data.path")
        self.val_path = absolute_path(self.val_path, "data.val_path")
        self.test_path = absolute_path(self.test_path, "data.test_path")


@register
@dataclass
class HubConfig(DataConfig):
    kind: str = "hub"
    target = "gptexp.data.corpora.hub:Hub"
    name: str = setting(
        MISSING, "name of a data set on the Hugging Face hub, or a folder written by save_to_disk"
    )
    config: str | None = setting(None, "configuration of that data set")
    fields: dict[str, str] = setting(
        {}, "names that the task's fields have in the data set, for example {source: article}"
    )


@dataclass
class MediaTableConfig(DataConfig):
    """Settings of media files with a table of their texts."""

    path: str = setting(
        MISSING, "table of files and texts (csv, jsonl, parquet), or the folder that it is in"
    )
    fields: dict[str, str] = setting(
        {}, "names that the task's fields have in the table, for example {caption: description}"
    )
    encoding: str = setting("utf-8", "character encoding of the table")

    def resolve(self, config: "Config") -> None:
        self.path = absolute_path(self.path, "data.path")


def absolute_path(path: Any, key: str) -> Any:
    """Return a path, or a pair of parallel paths, as absolute paths; None stays None.

    Raises:
        UserError: it is neither.
    """
    match path:
        case None:
            return None
        case str() if path:
            return os.path.abspath(os.path.expanduser(path))
        case [str() as source, str() as target]:
            return [absolute_path(source, key), absolute_path(target, key)]
    raise UserError(
        f"{key}={path}: give a file, a folder or a pattern, or [source,target] for two parallel files"
    )
