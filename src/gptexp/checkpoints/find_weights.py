"""Find weights by name: a run, or a model in the layout of transformers, in a folder or on the hub.

This module imports no torch.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gptexp.checkpoints.foreign_weights import ACCEPTED, check_weights, explain_foreign_weights
from gptexp.config import base_weights, registry, schema
from gptexp.config.compose import schema_of
from gptexp.config.plugins import import_installed_plugins, import_plugins
from gptexp.errors import UserError, nearest
from gptexp.files import sha256, short_hash
from gptexp.network import hub_is_reachable
from gptexp.runs.run_folder import RunFolder, find_run, find_run_around
from gptexp.wording import first_line

CLOSED_MODELS = re.compile(
    r"(openai/)?(gpt-?(3|4|5)[\w.-]*|chatgpt[\w.-]*|o[134](-[\w.-]+)?|((text|code)-)?(davinci|curie|babbage|ada)[\w-]*)"
    r"|(anthropic/)?claude[\w.-]*|(google/)?gemini[\w.-]*",
    re.IGNORECASE,
)
SUGGESTED_MODELS = (
    "gpt2",
    "gpt2-medium",
    "gpt2-large",
    "gpt2-xl",
    "Qwen/Qwen3-0.6B-Base",
    "meta-llama/Llama-3.2-1B",
)
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
TOKENIZER_PATTERNS = [
    "tokenizer.json",
    "vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "merges.txt",
    "*.model",
]
DOWNLOADED_FILES = [
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    *TOKENIZER_PATTERNS,
]


@dataclass(frozen=True)
class PretrainedFolder:
    """A folder with config.json, safetensors and tokenizer files."""

    path: Path

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder has a tokenizer file of any format, also one that gptexp cannot read."""
        from gptexp.data.tokenizer_files import TOKENIZER_FILES

        return any(any(self.path.glob(pattern)) for pattern in TOKENIZER_FILES)

    def special_ids(self) -> dict[str, int]:
        """Return the eos, pad, sep and mask tokens that config.json names."""
        config = json.loads((self.path / "config.json").read_text("utf8"))
        special_ids = {}
        for role in ("eos", "pad", "sep", "mask"):
            token = config.get(f"{role}_token_id")
            if isinstance(token, list):  # several tokens end a text: use the first
                token = next(iter(token), None)
            if token is not None:
                special_ids[role] = token
        return special_ids

    @property
    def task(self) -> schema.TaskConfig | None:
        """The task that an exported model was trained for; None if gptexp did not export it.

        Raises:
            UserError: another version of gptexp exported it, or its plugin cannot be imported.
        """
        try:
            config = json.loads((self.path / "config.json").read_text("utf8"))
            settings = config.get("gptexp_task")
            if not settings:
                return None
            import_installed_plugins()
            if settings["kind"] not in registry.schemas("task"):
                import_plugins(config.get("gptexp_plugins", []))
            return cast(schema.TaskConfig, schema_of("task", settings)(**settings))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path / 'config.json'}: damaged, or of another version of gptexp ({error})"
            ) from None

    def weights_digest(self) -> str:
        """Return a hash of the files that a run starts from: config, weights, tokenizer, chat template."""
        files = [self.path / "config.json", *sorted(self.path.glob("model*.safetensors"))]
        hashes = "".join(map(sha256, files))
        for pattern in TOKENIZER_PATTERNS:
            hashes += "".join(file.name + sha256(file) for file in sorted(self.path.glob(pattern)))
        return short_hash(hashes)


def find_weights(name: str, outputs: Path = Path("outputs")) -> RunFolder | PretrainedFolder:
    """Find weights by name.

    Args:
        name: `base`, the weights that gptexp ships; a run by folder, name or `latest`; a folder in the layout of
            transformers; or a name on the Hugging Face hub, which is downloaded once and kept in the hub's cache.

    Raises:
        UserError: there are no such weights.
    """
    if not name.strip():
        raise UserError(f"{name!r}: names no weights. {ACCEPTED}")
    try:
        return _find(name, outputs)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise UserError(f"{name:.80}: cannot be read ({error.strerror})") from None
    except RuntimeError as error:  # of expanduser
        raise UserError(f"{name:.80}: {error}") from None


def _find(name: str, outputs: Path) -> RunFolder | PretrainedFolder:
    folder = base_weights.FOLDER if name == "base" else Path(name).expanduser()
    if (folder / "config.json").is_file():
        check_weights(folder, name)
        return PretrainedFolder(folder)
    try:
        return find_run(name, outputs)
    except UserError as error:
        if CLOSED_MODELS.fullmatch(name):
            raise UserError(
                f"{name}: its weights were never published, so they cannot be loaded. "
                f"Give a run, or a published model: {', '.join(SUGGESTED_MODELS)} or another one of these architectures"
            ) from None
        if find_run_around(folder) is not None:
            raise
        if (reason := explain_foreign_weights(name)) is not None:
            raise UserError(reason) from None
        if name == "latest" or not HUB_NAME.fullmatch(name):
            raise
        no_run = str(error)
    downloaded = _download(name, no_run)  # outside of the handler: its error is not chained
    check_weights(downloaded, name)
    return PretrainedFolder(downloaded)


def _download(name: str, no_run: str) -> Path:
    """Download a model from the hub. `no_run` says why the name is no run."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    local = not hub_is_reachable()  # without a network the library would retry for minutes
    try:
        folder = Path(
            snapshot_download(name, allow_patterns=DOWNLOADED_FILES, local_files_only=local)
        )
        if (folder / "config.json").is_file():
            return folder
        reason = "it has no config.json there"
    except (OSError, HFValidationError) as error:
        reason = first_line(error)
    if local:
        reason = "no network, and not in the local cache"
    raise UserError(
        f"{no_run}. Nor is it a model on the Hugging Face hub ({reason}).{nearest(name, SUGGESTED_MODELS)}"
    )


def with_initial_tokenizer(config: schema.Config) -> tuple[schema.Config, Path | None]:
    """Fill in `init_digest`, and return the tokenizer of the weights that a run starts from; None: random weights.

    Raises:
        UserError: there are no such weights.
    """
    if not (config.init or config.resume):
        return config, None
    outputs = Path(config.outputs)
    source = (
        find_weights(config.init, outputs) if config.init else find_run(str(config.resume), outputs)
    )
    return replace(config, init_digest=source.weights_digest()), source.tokenizer
