"""From the command line to a checked Config, without importing torch.

Hydra composes; this file registers the schema, fills in what a flavour implies, and checks what types cannot
express.
"""

import math
import os
import re
import sys
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gptexp.config.base_weights import base_saw_test_data, starts_from_base
from gptexp.config.hydra_errors import explain_hydra_error, no_such_key
from gptexp.config.keys import SCHEMAS, walk
from gptexp.config.package_data import conf_folder
from gptexp.config.presets import OF_ARCH, PRESETS
from gptexp.config.schema import RATES, Config, SpeakConfig, SpokenConfig
from gptexp.errors import UserError, unknown

ROPE_SCALING = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}


class MissingValueError(UserError):
    """A key without a default was not given."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} must be given: add {key}=... to the command")
        self.key = key


def register_schemas() -> None:
    """Put the dataclasses where the YAML files' defaults lists find them."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config)
    for group, schemas in SCHEMAS.items():
        for name, node in schemas.items():
            store.store(group=group, name=name, node=node)


def compose_config(overrides: list[str], sweep: Path | None = None) -> Config:
    """Compose and check a config, or one with a sweep's file on top, outside of Hydra's own main.

    Raises:
        UserError: an override names something that does not exist or has the wrong type.
    """
    register_schemas()
    GlobalHydra.instance().clear()
    overrides = preprocess_overrides(overrides)
    try:
        folder, name = (
            (str(sweep.resolve().parent), sweep.stem) if sweep else (conf_folder(), "config")
        )
        search = [f"hydra.searchpath=[file://{conf_folder()}]"] if sweep else []
        with initialize_config_dir(folder, version_base="1.3"):
            return checked(compose(name, overrides=[*search, *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_hydra_error(error, overrides) from error


def preprocess_overrides(overrides: list[str]) -> list[str]:
    """Names of the user's own inside of a dictionary are new keys, which Hydra wants to be told; and ~ is a home."""
    words = [re.sub(r"=~(?=/)", lambda _: f"={Path.home()}", word) for word in overrides]
    return [
        f"++{word}" if re.match(r"(data\.fields|model\.rope_scaling)[.=]", word) else word
        for word in words
    ]


def quoted(value: Any) -> str:
    """A value as Hydra takes it, whatever characters it has: backslashes are doubled before a quote or the end only."""
    text = re.sub(
        r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(value)
    )
    return "'" + text.replace("${", "\\${") + "'"


def swept_keys(overrides: list[str]) -> set[str]:
    """Keys that have several values in these overrides."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:  # composing says what is wrong with them
        return set()
    return {override.key_or_group for override in parsed if override.is_sweep_override()}


def keys_without_effect(config: Config) -> set[str]:
    """Settings that cannot change what a run computes, and so have no part in its id.

    What init and resume name has a part, as `origin`; outputs is another folder by itself.
    """
    neutral = {
        key for key, field, _ in walk(config) if not field.metadata.get("affects_result", True)
    }
    return neutral - {"init", "resume", "outputs"}


def checked(cfg: DictConfig) -> Config:
    """A composed config as a Config object, completed and checked.

    Raises:
        UserError: a value is missing, not among its choices, too small, or at odds with another.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise MissingValueError(missing[0])
    config = cast(Config, OmegaConf.to_object(cfg))
    added = sorted(set(_leaves(OmegaConf.to_container(cfg))) - {key for key, _, _ in walk(config)})
    if added:  # `++key=value` gets past Hydra's own check
        raise no_such_key(added[0])
    for key, field, value in walk(config):
        choices, minimum = field.metadata.get("choices"), field.metadata.get("minimum")
        for item in value if isinstance(value, list) else [value]:
            if choices and item is not None and item not in choices:
                raise unknown(key, item, choices)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value}: must be a finite number")
        if minimum is not None and value is not None and value < minimum:
            raise UserError(f"{key}={value}: must be at least {minimum:g}")
        maximum = field.metadata.get("maximum")
        if maximum is not None and value is not None and value > maximum:
            raise UserError(f"{key}={value}: must be at most {maximum:g}")
    _complete(config)
    return config


def load(path: Path) -> Config:
    """Read back the config.yaml of a run folder.

    Raises:
        UserError: it is damaged, or another version of the code wrote it.
    """
    groups = ("data", "tokenizer", "task", "optim")
    try:
        stored = OmegaConf.to_container(OmegaConf.load(path))
        config = OmegaConf.structured(Config)
        kinds = {schema().kind: schema for group in groups for schema in SCHEMAS[group].values()}
        for group in groups:
            config[group] = OmegaConf.structured(kinds[stored[group]["kind"]])  # type: ignore[index,call-overload]
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(config, stored)))
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{path}: damaged, or written by another version of gptexp ({reason})"
        ) from error


def save(config: Config, path: Path) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


def cache_folder(config: Config) -> Path:
    return Path(config.cache or os.environ.get("GPTEXP_CACHE") or "~/.cache/gptexp").expanduser()


def _leaves(node: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        is_group = prefix == "" and isinstance(value, dict)
        found += _leaves(value, f"{key}.") if is_group else [f"{prefix}{key}"]
    return found


def _complete(config: Config) -> None:
    """Fill in what follows from other settings, and check what involves several of them."""
    model, trainer = config.model, config.trainer
    for name in (
        "path",
        "val_path",
        "test_path",
    ):  # absolute, so that the run's config means the same from any folder
        if hasattr(config.data, name):
            setattr(config.data, name, _absolute(getattr(config.data, name), f"data.{name}"))
    if isinstance(config.data, SpokenConfig):
        if not config.data.voices:
            raise UserError(
                "data.voices=[]: name a voice of espeak-ng, for example data.voices=[en-us,en+m3]"
            )
        if (
            isinstance(config.task, SpeakConfig)
            and config.task.voice
            and config.task.voice not in config.data.voices
        ):
            raise unknown("task.voice", config.task.voice, config.data.voices)
    if model.arch not in config.task.archs:
        raise UserError(
            f"model.arch={model.arch}: task={config.task.kind} does not work on it. "
            f"Allowed: {', '.join(config.task.archs)}"
        )
    # What tags tokens is no architecture of transformers, and can have the shape of a decoder that it starts from.
    of_arch = {} if config.task.num_token_classes else OF_ARCH.get((model.preset, model.arch), {})
    for key, value in (PRESETS[model.preset] | of_arch).items():
        if getattr(model, key) is None:
            setattr(model, key, value)
    model.kv_heads = model.kv_heads or model.heads
    if (
        model.d_ff is None
    ):  # 8/3 keeps SwiGLU's three matrices at the size of GELU's two (arXiv 2002.05202)
        model.d_ff = (
            -(-8 * model.d_model // 3 // 16) * 16
            if model.feed_forward == "swiglu"
            else 4 * model.d_model
        )
    if not model.head_dim and model.d_model % model.heads:
        raise UserError(
            f"model.d_model={model.d_model} must be a multiple of model.heads={model.heads}"
        )
    if model.heads % model.kv_heads:
        raise UserError(
            f"model.heads={model.heads} must be a multiple of model.kv_heads={model.kv_heads}"
        )
    model.head_dim = model.head_dim or model.d_model // model.heads
    if model.position == "rotary" and model.head_dim % 2:
        raise UserError(
            f"rotary positions need an even head size (model.d_model / model.heads), not {model.head_dim}"
        )
    if model.rope_scaling and set(model.rope_scaling) != ROPE_SCALING:
        raise UserError(f"model.rope_scaling: give {', '.join(sorted(ROPE_SCALING))}, all of them")
    if not model.window_pattern or set(model.window_pattern) - {"S", "L"}:
        raise UserError(
            f"model.window_pattern={model.window_pattern}: must consist of S (sliding window) and L "
            "(the whole sequence), for example SSSL"
        )
    if model.preset == "gpt2" and model.kv_heads != model.heads:
        raise UserError(
            f"model.kv_heads={model.kv_heads}: GPT-2 has one per head; use model.preset=modern"
        )
    if getattr(config.task, "loss_on_prompt", False) and model.arch != "decoder":
        raise UserError(
            f"task.loss_on_prompt=true needs model.arch=decoder: {model.arch} sees the whole prompt at once"
        )
    learned = base_saw_test_data(config)
    if config.init == "base" and learned:
        raise UserError(
            f"{learned}: would test on texts that base was trained on. Leave it as it is, or start with init=scratch"
        )
    if config.init is None and starts_from_base(config):
        if learned:
            print(
                f"from random weights: base was trained on texts that {learned} holds out",
                file=sys.stderr,
            )
        else:
            config.init = "base"
    elif config.init == "scratch":
        config.init = None
    if not config.resume:  # which goes on with the rates of the run that it names
        fill_rates(config)
    if config.optim.lora_rank and config.optim.kind != "adamw":
        raise UserError(
            f"optim.lora_rank={config.optim.lora_rank}: needs optim=adamw; Muon is for whole matrices"
        )
    if config.optim.lora_rank and not (config.init or config.resume):
        raise UserError(
            f"optim.lora_rank={config.optim.lora_rank}: adapts trained weights; name them with init=..."
        )
    if config.optim.lora_rank and not config.optim.lora_targets:
        raise UserError(
            "optim.lora_targets=[]: name the layers that are adapted, for example [query,value]"
        )
    if "gate" in config.optim.lora_targets and model.feed_forward != "swiglu":
        raise UserError(
            f"optim.lora_targets: feed_forward={model.feed_forward} has no gate, only up and down"
        )
    if config.data.val_fraction + config.data.test_fraction >= 1:
        raise UserError("data.val_fraction + data.test_fraction must leave something to train on")
    world = trainer.devices * trainer.nodes
    if trainer.global_batch_size % world:
        raise UserError(
            f"trainer.global_batch_size={trainer.global_batch_size} must be a multiple of "
            f"trainer.devices x trainer.nodes = {world}"
        )
    if config.init and config.resume:
        raise UserError(
            "init= starts a new training from weights, resume= goes on with an old one: give one of them"
        )


def fill_rates(config: Config, rates: dict[str, float] | None = None) -> None:
    """Give the learning rates that are null those of another run, or what RATES says."""
    # Low-rank factors start from nothing, whatever they are added to.
    share = 0.1 if config.init and not config.optim.lora_rank else 1.0
    for name, rate in RATES[config.optim.kind].items():
        if getattr(config.optim, name) is None:
            setattr(config.optim, name, (rates or {}).get(name, share * rate))


def _absolute(path: Any, key: str) -> Any:
    match path:
        case None:
            return None
        case str() if path:
            return os.path.abspath(os.path.expanduser(path))
        case [str() as source, str() as target]:
            return [_absolute(source, key), _absolute(target, key)]
    raise UserError(
        f"{key}={path}: give a file, a folder or a pattern, or [source,target] for two parallel files"
    )
