"""Settings of the sources of examples."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.config.schema.tokenizer import TokenizerConfig
from gptexp.errors import UserError
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
TOKEN_EXTENSIONS = (".bin", ".ds", ".npy")  # of files of other programs
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
CHAIN = re.compile(r"[a-z][a-z0-9+.-]+::.*://", re.I)  # of fsspec
REMOTE_BLOCK = 256  # windows that are read together over a network


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

    @property
    def order_block(self) -> int | None:
        """Number of neighbouring sequences that the order of training keeps close; None: none."""
        return None

    def check(self, config: "Config") -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction}, data.test_fraction={self.test_fraction}: "
                f"their sum must be less than 1"
            )


@dataclass
class DocumentedPackagesConfig(DataConfig):
    """Settings of sources that are made of the docstrings of installed packages."""

    packages: list[str] = setting(
        ["all"],
        "names of installed packages, 'stdlib', or 'all': stdlib and every dependency of gptexp",
    )
    unseen: list[str] = setting(
        ["fsspec", "networkx", "wandb"],
        "packages that are never trained on: they are the split `unseen`",
    )


@register
@dataclass
class PydocsConfig(DocumentedPackagesConfig):
    kind: str = "pydocs"
    target = "gptexp.data.corpora.pydocs:Pydocs"
    code: bool = setting(
        False, "summaries: add the first 40 lines of a function's code to its source"
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
class ChatsConfig(DocumentedPackagesConfig):
    kind: str = "chats"
    target = "gptexp.data.corpora.made_chats:Chats"
    phrases: int = setting(
        3000,
        "number of conversations about dates and measures in other languages, beside those about functions",
        minimum=0,
    )


@register
@dataclass
class PreferencesConfig(DocumentedPackagesConfig):
    kind: str = "preferences"
    target = "gptexp.data.corpora.made_preferences:Preferences"


@dataclass
class RecordsConfig(DataConfig):
    """Settings of sources whose examples are records with named fields."""

    fields: dict[str, Any] = setting(
        {},
        "names that the task's fields have in the data: {source: article}, nested ones translation.en and "
        'messages.0.content; "{title}\\n{body}" or a list [title,body] joins several; for '
        "task=chat and task=prefer, see docs/chat.md",
        texts=True,
    )
    template: str | None = setting(
        None,
        'text of several fields, "{instruction}\\n{input}", which is the source of a pair, or the text; null: see '
        "data.fields",
    )

    def resolve(self, config: "Config") -> None:
        """Make a template of every list of names."""
        self.fields = {
            field: field_template(f"data.fields.{field}", name)
            for field, name in self.fields.items()
        }
        if self.template is not None:
            self.template = field_template("data.template", self.template)

    def with_template(self, fields: tuple[str, ...]) -> Self:
        """Return the settings with the template among the names, under the field of the task that it is for.

        Raises:
            UserError: data.fields names that field as well.
        """
        if self.template is None:
            return self
        field = next((name for name in ("source", "text") if name in fields), fields[0])
        if field in self.fields:
            raise UserError(
                f"data.template and data.fields.{field}={self.fields[field]} both name the {field}: "
                f"give one of them"
            )
        return replace(self, fields={**self.fields, field: self.template})


@dataclass
class TableConfig(RecordsConfig):
    """Settings of files with records."""

    encoding: str = setting(
        "utf-8", "character encoding of text files; files with a byte order mark need none"
    )
    separator: str | None = setting(
        None, "separator of a table of text: comma, semicolon, tab, pipe or another; null: detected"
    )
    quoting: str | None = setting(
        None,
        'quotation marks of a table of text: double ("" is one inside), backslash (\\" is one inside), single, '
        "or none: they are text; null: detected",
        choices=("double", "backslash", "single", "none"),
    )

    def resolve(self, config: "Config") -> None:
        """Replace the name of a separator by its character.

        Raises:
            UserError: it is neither a name nor a character.
        """
        super().resolve(config)
        if self.separator is not None:
            self.separator = SEPARATORS.get(self.separator, self.separator)
            if len(self.separator) != 1:
                raise UserError(
                    f"data.separator={self.separator}: give one character, or {', '.join(SEPARATORS)}"
                )


@register
@dataclass
class FilesConfig(TableConfig):
    kind: str = "files"
    target = "gptexp.data.corpora.files:Files"
    path: Any = setting(
        MISSING, "file, folder or glob; [source,target] for two parallel line files", texts=True
    )
    val_path: Any = setting(None, "files for validation; null: a fraction of path", texts=True)
    test_path: Any = setting(None, "files for the test; null: a fraction of path", texts=True)

    def resolve(self, config: "Config") -> None:
        """Make the paths absolute, so that the run's config means the same from any folder."""
        super().resolve(config)
        self.path = absolute_path(self.path, "data.path")
        self.val_path = absolute_path(self.val_path, "data.val_path")
        self.test_path = absolute_path(self.test_path, "data.test_path")


@register
@dataclass
class DebianConfig(DataConfig):
    kind: str = "debian"
    target = "gptexp.data.corpora.debian:Debian"
    split: str = setting(
        "near",
        "near: of near-duplicates one is used; exact: of equal texts. A source package is in one split",
        choices=("near", "exact"),
    )
    val_fraction: float = setting(0.02, "fraction held out for validation", minimum=0, maximum=1)
    test_fraction: float = setting(0.02, "fraction held out for the test", minimum=0, maximum=1)
    path: str = setting(
        "/var/lib/apt/lists", "folder of apt's lists with *_Translation-en and *_Packages"
    )

    def resolve(self, config: "Config") -> None:
        self.path = absolute_path(self.path, "data.path")


@register
@dataclass
class TokensConfig(DataConfig):
    kind: str = "tokens"
    target = "gptexp.data.corpora.stored_tokens:StoredTokens"
    path: str = setting(
        MISSING,
        "folder of a token store, whose tokenizer and splits are taken as they are; or token files of nanoGPT, llm.c, "
        "Megatron (.bin), datatrove (.ds) or OLMo (.npy): a file, folder or pattern, with the tokenizer that made "
        "them. The folder of a store can be an address: s3://BUCKET/FOLDER, https://..., gs://...",
    )
    dtype: str | None = setting(
        None,
        "type of the numbers in .bin of nanoGPT and .npy of OLMo, which do not say it; null: uint16 where the "
        "vocabulary fits",
        choices=("uint16", "uint32"),
    )

    shuffle_block: int | None = setting(
        None,
        "shuffle blocks of so many neighbouring windows, then the windows of 64 blocks, so that each block "
        f"is read once; 0: shuffle all windows at once; null: {REMOTE_BLOCK} where data.path is an address, else 0",
        minimum=0,
    )
    cache_gb: float = setting(
        10,
        "gigabytes on this machine for the tokens of an address",
        minimum=0.1,
        affects_result=False,
    )

    def resolve(self, config: "Config") -> None:
        if isinstance(self.path, str) and CHAIN.match(self.path):
            raise UserError(
                f"data.path={self.path}: several addresses in one. Give that of the store alone, such as "
                f"https://HOST/FOLDER; the tokens are cached in any case"
            )
        if self.is_remote:
            scheme, _, rest = self.path.partition("://")
            self.path = f"{scheme.lower()}://{rest}".rstrip("/")
        else:
            self.path = absolute_path(self.path, "data.path")
        if self.shuffle_block is None:
            self.shuffle_block = REMOTE_BLOCK if self.is_remote else 0

    @property
    def is_remote(self) -> bool:
        """Whether the path is an address on the network."""
        return isinstance(self.path, str) and URL.match(self.path) is not None

    @property
    def order_block(self) -> int | None:
        return self.shuffle_block or None

    def check(self, config: "Config") -> None:
        super().check(config)
        if self.limit is not None:
            raise UserError(
                f"data.limit={self.limit}: data=tokens trains on all examples of the store; leave it out, or build "
                f"the store with it"
            )
        if not (self.is_store or config.init or config.resume) and os.path.exists(self.path):
            self.check_tokenizer(config.tokenizer)

    def check_tokenizer(self, tokenizer: TokenizerConfig) -> None:
        """Refuse a tokenizer that would be trained on texts, for files of another program.

        Raises:
            UserError: it would be.
        """
        is_table = tokenizer.kind == "char" and self.character_table.is_file()
        if tokenizer.kind in ("bpe", "char") and not is_table:
            raise UserError(
                f"tokenizer={tokenizer.kind}: is trained on texts, and data=tokens has numbers. Name the tokenizer "
                f"that made them: tokenizer=hf tokenizer.name=gpt2, or a folder with its files"
            )

    @property
    def character_table(self) -> Path:
        """The file that nanoGPT writes beside the tokens of a character model."""
        path = Path(self.path)
        return (path if path.is_dir() else path.parent) / "meta.pkl"

    @property
    def is_store(self) -> bool:
        """Whether the path is that of a token store, and not of token files of another program."""
        if self.is_remote:
            return True
        folder = Path(self.path)
        if (folder / "meta.json").is_file():
            return True
        return folder.is_dir() and not any(
            file.suffix in TOKEN_EXTENSIONS for file in folder.rglob("*")
        )


@register
@dataclass
class HubConfig(RecordsConfig):
    kind: str = "hub"
    target = "gptexp.data.corpora.hub:Hub"
    name: str = setting(
        MISSING, "name of a data set on the Hugging Face hub, or a folder written by save_to_disk"
    )
    config: str | None = setting(None, "configuration of that data set")
    streaming: bool = setting(
        False, "read the data set over the network while it is prepared, without storing all of it"
    )


@dataclass
class MediaTableConfig(TableConfig):
    """Settings of media files with a table of their texts."""

    path: str = setting(
        MISSING, "table of files and texts (JSON, CSV, Parquet, ...), or the folder that it is in"
    )

    def resolve(self, config: "Config") -> None:
        super().resolve(config)
        self.path = absolute_path(self.path, "data.path")


def field_template(key: str, name: Any) -> str:
    """Return the name or the template that the setting `key` holds; a list of names is a template with a line for each.

    Raises:
        UserError: it is something else.
    """
    match name:
        case bool():
            pass
        case int():
            return str(name)
        case str() if name.strip():
            return name.replace("\\n", "\n").replace("\\t", "\t")
        case [*names] if names and all(isinstance(one, str) and one.strip() for one in names):
            return "\n".join(f"{{{one}}}" for one in names)
    raise UserError(
        f"{key}={'null' if name is None else name}: give the name of a field, a list of names, or a "
        f"template: '{key}=\"{{title}}\\n{{body}}\"'"
    )


def absolute_path(path: Any, key: str) -> Any:
    """Return a path, or a pair of parallel paths, as absolute paths; None stays None.

    Raises:
        UserError: it is neither.
    """
    match path:
        case None:
            return None
        case str() if URL.match(path):
            raise UserError(
                f"{key}={path}: an address on the network. Download the file, or read a data set with data=hub "
                f"data.name=..."
            )
        case str() if path:
            return os.path.abspath(os.path.expanduser(path))
        case [str() as source, str() as target]:
            return [absolute_path(source, key), absolute_path(target, key)]
    raise UserError(
        f"{key}={path}: give a file, a folder or a pattern, or [source,target] for two parallel files"
    )
