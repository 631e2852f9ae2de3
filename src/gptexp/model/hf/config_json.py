"""config.json of transformers, from our config and back.

An architecture has the settings that architectures.py lists for it. Any other setting, one that is added to
TransformerConfig later among them, must have the value that the architecture computes; else it is refused.
"""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from gptexp.model.config import TransformerConfig
from gptexp.model.hf import int8
from gptexp.model.hf.architectures import ARCHITECTURES, TRANSLATED, WITHOUT_INFLUENCE, Architecture

ROPE_SCALING = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")
LAYER_TYPES = {"sliding_attention": "S", "full_attention": "L"}


def architecture_of(config: TransformerConfig) -> Architecture:
    """Return the architecture of transformers that computes what a model of this config computes.

    Raises:
        ValueError: there is none; the message says what the closest one lacks.
    """
    unsupported = {a.name: _unsupported_settings(a, config) for a in ARCHITECTURES}
    for architecture in ARCHITECTURES:
        if not unsupported[architecture.name]:
            return architecture

    def distance(name: str) -> tuple[bool, int]:
        return any(x.startswith("arch=") for x in unsupported[name]), len(unsupported[name])

    closest = min(unsupported, key=distance)
    reason = ""
    if config.arch == "prefix":
        reason = " (a causal mask gives other logits than a prefix that sees itself)"
    raise ValueError(
        f"none of {', '.join(unsupported)} computes this model{reason}: the closest, {closest}, "
        f"does not have {', '.join(unsupported[closest])}"
    )


def read_config(folder: Path) -> tuple[Architecture, TransformerConfig]:
    """Read the config.json of a folder in the layout of transformers: its architecture, and our config.

    Raises:
        ValueError: it describes a model that we do not compute; the message names every such setting.
        OSError: there is no config.json.
    """
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text("utf8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    model_type = values.get("model_type") if isinstance(values, dict) else None
    for architecture in ARCHITECTURES:
        if model_type == architecture.model_type:
            return architecture, _from_hf_config(architecture, values, file)
    allowed = ", ".join(architecture.model_type for architecture in ARCHITECTURES)
    raise ValueError(
        f"{file}: model_type={model_type}: not an architecture that gptexp reads. Allowed: {allowed}"
    )


def to_hf_config(architecture: Architecture, config: TransformerConfig) -> dict[str, Any]:
    """Return the entries of config.json that describe the model."""
    values: dict[str, Any] = {
        "architectures": [architecture.name],
        "model_type": architecture.model_type,
    }
    # Their defaults are tokens of other vocabularies.
    values |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    for name, hf_names in architecture.settings.items():
        values |= dict.fromkeys(hf_names.split(), getattr(config, name))
    values |= {older: values[name] for name, older in architecture.older_names.items()}
    values |= {key: allowed[0] for key, allowed in architecture.required_hf_values.items()}
    if config.position == "rotary":  # under the names of transformers 5, and under those of 4
        scaling = None
        if config.rope_scaling:
            scaling = {"rope_type": "llama3", **dict(config.rope_scaling)}
        values["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            **(scaling or {}),
        }
        values |= {"rope_theta": config.rope_theta, "rope_scaling": scaling}
    if architecture.windows:
        values["sliding_window"] = config.window if any(config.windows) else None
    if "use_sliding_window" in architecture.hf_defaults:
        values["use_sliding_window"] = any(config.windows)
    if architecture.windows == "by layer":
        values["layer_types"] = [
            "sliding_attention" if window else "full_attention" for window in config.windows
        ]
    if config.arch == "encoder_decoder":
        values |= {"is_encoder_decoder": True, "forced_eos_token_id": None}
    return values


def _unsupported_settings(architecture: Architecture, config: TransformerConfig) -> list[str]:
    """Return our settings, as NAME=VALUE, that the architecture does not have."""
    computed = {
        item.name: item.default for item in fields(config) if item.default is not MISSING
    } | {"kv_heads": config.heads, "head_dim": config.d_model // config.heads}
    computed |= architecture.fixed_settings
    names = computed.keys() - architecture.settings.keys() - WITHOUT_INFLUENCE - TRANSLATED
    wrong = [
        f"{item.name}={getattr(config, item.name)}"
        for item in fields(config)
        if item.name in names and getattr(config, item.name) != computed[item.name]
    ]
    if architecture.needs_whole_heads and config.d_model % config.heads:
        wrong.append(f"d_model={config.d_model} for heads={config.heads}")
    windows = set(config.windows)
    if (windows != {0} and not architecture.windows) or (
        len(windows) > 1 and architecture.windows != "by layer"
    ):
        wrong.append(f"window={config.window} with window_pattern={config.window_pattern}")
    return wrong


def _from_hf_config(
    architecture: Architecture, values: dict[str, Any], file: Path
) -> TransformerConfig:
    older = architecture.older_names.items()
    renamed = {name: values[old] for name, old in older if old in values}
    values = {**architecture.hf_defaults, **renamed, **values}
    wrong = [
        f"{key}={values[key]} (only {' or '.join(map(str, allowed))} computes the same)"
        for key, allowed in architecture.required_hf_values.items()
        if values.get(key, allowed[0]) not in allowed
    ]
    ours = dict(architecture.fixed_settings)
    kinds = {item.name: item.type for item in fields(TransformerConfig)}
    for name, hf_names in architecture.settings.items():
        stated = {key: values.get(key) for key in hf_names.split()}
        ours[name] = stated[hf_names.split()[0]]
        if len(set(stated.values())) > 1:
            all_stated = " with ".join(f"{key}={value}" for key, value in stated.items())
            wrong.append(f"{all_stated} (only equal ones)")
        elif ours[name] is None and name not in ("kv_heads", "head_dim", "d_ff"):
            wrong.append(f"no {hf_names}")
        elif kinds[name] is int and not (ours[name] is None or _is_count(ours[name])):
            wrong.append(f"{hf_names.split()[0]}={ours[name]!r} (only whole numbers above 0)")
    quantization = values.get("quantization_config")
    if quantization and (unread := int8.describe_unread(quantization)):
        wrong.append(f"weights that are quantised ({unread}): give the model as it was before")
    if architecture.fixed_settings["position"] == "rotary":
        wrong += _read_rotary(values, ours)
    if not wrong and architecture.windows:
        wrong += _read_windows(architecture, values, ours)
    if wrong:
        raise ValueError(f"{file}: {architecture.name} with {'; '.join(wrong)}")
    ours["kv_heads"] = ours.get("kv_heads") or ours["heads"]
    ours["head_dim"] = ours.get("head_dim") or ours["d_model"] // ours["heads"]
    ours["d_ff"] = ours["d_ff"] or 4 * ours["d_model"]
    return TransformerConfig(**ours, initialisation="gpt2")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read_rotary(values: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Add theta and scaling of rotary positions to our settings; return what we do not compute."""
    rope = {**(values.get("rope_scaling") or values.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    ours["rope_theta"] = float(rope.get("rope_theta") or values.get("rope_theta") or 10000.0)
    wrong = []
    if kind == "llama3":
        rope.setdefault("original_max_position_embeddings", values.get("max_position_embeddings"))
        wrong += [f"llama3 rotary scaling without {x}" for x in ROPE_SCALING if rope.get(x) is None]
        ours["rope_scaling"] = tuple((name, float(rope.get(name) or 0)) for name in ROPE_SCALING)
    elif kind != "default":
        wrong.append(f"rotary scaling of type {kind} (only default and llama3 are known here)")
    elif any(isinstance(value, dict) for value in rope.values()):
        wrong.append("rotary parameters of each kind of layer")
    partial = rope.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if partial not in (None, 1, 1.0):
        wrong.append(f"partial_rotary_factor={partial} (only a rotation of the whole head is)")
    return wrong


def _read_windows(
    architecture: Architecture, values: dict[str, Any], ours: dict[str, Any]
) -> list[str]:
    """Add the window and its pattern to our settings; return what we do not compute."""
    window, layers = values.get("sliding_window"), range(ours["layers"])
    if not window or not values.get("use_sliding_window", True) or window >= ours["context"]:
        return []
    letters = "S" * ours["layers"]
    if architecture.windows == "by layer":
        first = values["max_window_layers"]
        default = ["sliding_attention" if layer >= first else "full_attention" for layer in layers]
        kinds = values.get("layer_types") or default
        if unknown := set(kinds) - LAYER_TYPES.keys():
            return [f"layer_types of {', '.join(sorted(unknown))}"]
        letters = "".join(LAYER_TYPES[kind] for kind in kinds)
    if "S" in letters:
        ours |= {"window": window, "window_pattern": _shortest_period(letters)}
    return []


def _shortest_period(letters: str) -> str:
    """Return the shortest pattern that repeats to these letters: SL for SLSLS."""
    periods = (letters[:size] for size in range(1, len(letters) + 1))
    return next(x for x in periods if (x * len(letters))[: len(letters)] == letters)
