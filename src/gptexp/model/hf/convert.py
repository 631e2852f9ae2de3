"""The same models under the names of transformers, in both directions: config.json and model.safetensors.

architectures.py has the names side by side. What does not fit is refused with the reason, never approximated.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptexp.model.config import TransformerConfig
from gptexp.model.hf.architectures import ARCHITECTURES, Architecture
from gptexp.model.positions import sinusoidal
from gptexp.model.transformer import Transformer

ROPE_SCALING = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")
# What files hold beside the parameters: causal masks, frequencies, and what is tied to the embedding.
NOT_PARAMETERS = re.compile(r"\.attn\.(masked_)?bias$|rotary_emb\.inv_freq$")
TIED = re.compile(r"^lm_head\.weight$|\.(en|de)coder\.embed_tokens\.weight$")


def architecture_of(config: TransformerConfig) -> Architecture:
    """The architecture of transformers that computes what a model of this config computes.

    Raises:
        ValueError: there is none; the message says what the closest lacks.
    """
    lacking = {
        architecture.name: _unsupported_settings(architecture, config)
        for architecture in ARCHITECTURES
    }
    for architecture in ARCHITECTURES:
        if not lacking[architecture.name]:
            return architecture
    closest = min(
        lacking,
        key=lambda name: (
            any(said.startswith("arch=") for said in lacking[name]),
            len(lacking[name]),
        ),
    )
    reason = " (a causal mask gives other logits where all of the given text is seen)" * (
        config.arch == "prefix"
    )
    raise ValueError(
        f"none of {', '.join(lacking)} computes this model{reason}: the closest, {closest}, "
        f"does not have {', '.join(lacking[closest])}"
    )


def read_config(folder: Path) -> TransformerConfig:
    """The config of a folder in the layout of transformers.

    Raises:
        ValueError: it describes what we do not compute; the message names every such setting.
        OSError: there is no config.json.
    """
    file = folder / "config.json"
    try:
        said = json.loads(file.read_text("utf8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    return _from_hf_config(_by_type(said, file), said, file)


def load(folder: Path) -> Transformer:
    """The model of a folder in the layout of transformers, in fp32 and in eval mode.

    Raises:
        ValueError: the architecture, a setting or the weights are not what we compute.
        OSError: a file is missing or unreadable.
    """
    config = read_config(folder)
    architecture = architecture_of(config)
    with torch.device("meta"):  # no time for random weights that are replaced at once
        model = Transformer(config)
    model.load_state_dict(
        _our_weights(architecture, model, _read_weights(folder), folder), strict=False, assign=True
    )
    if config.tie_embeddings:
        model.head.weight = model.embedding.weight
    return model.eval()


def save(
    model: Transformer, folder: Path, dtype: torch.dtype = torch.float32, **more: Any
) -> Architecture:
    """Write config.json and model.safetensors as transformers reads them.

    Args:
        more: further entries of config.json, such as eos_token_id.

    Raises:
        ValueError: no architecture of transformers computes this model.
    """
    architecture = architecture_of(model.config)
    parameters = {
        name: parameter.detach().cpu().to(dtype) for name, parameter in model.named_parameters()
    }
    weights = _constants(model.config) | {
        name: parameters["embedding.weight"].clone() for name in _copies(model.config)
    }
    for theirs, ours in _names(architecture, model).items():
        tensor = torch.cat([parameters[name] for name in ours])
        weights[theirs] = _turned(architecture, theirs, tensor).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    said = (
        _to_hf_config(architecture, model.config)
        | {"dtype": str(dtype).removeprefix("torch.")}
        | more
    )
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n", "utf8")
    return architecture


def _unsupported_settings(architecture: Architecture, config: TransformerConfig) -> list[str]:
    """Our settings that it cannot express."""
    found = [
        name for name, value in architecture.switches.items() if getattr(config, name) != value
    ]
    if "kv_heads" not in architecture.settings and config.kv_heads != config.heads:
        found.append("kv_heads")
    if "head_dim" not in architecture.settings and config.head_dim * config.heads != config.d_model:
        found.append("head_dim")
    lacking = [f"{name}={getattr(config, name)}" for name in found]
    if architecture.splits_width and config.d_model % config.heads:
        lacking.append(f"d_model={config.d_model} for heads={config.heads}")
    return lacking


def _to_hf_config(architecture: Architecture, config: TransformerConfig) -> dict[str, Any]:
    said: dict[str, Any] = {
        "architectures": [architecture.name],
        "model_type": architecture.model_type,
    }
    said |= dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id")
    )  # their defaults are of other vocabularies
    for ours, theirs in architecture.settings.items():
        said |= dict.fromkeys(
            theirs.split(), config.head_dim if ours == "head_dim" else getattr(config, ours)
        )
    said |= {key: allowed[0] for key, allowed in architecture.required_hf_values.items()}
    if config.position == "rotary":  # under the names of transformers 5, and under those of 4
        scaling = (
            {"rope_type": "llama3", **dict(config.rope_scaling)} if config.rope_scaling else None
        )
        said["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            **(scaling or {}),
        }
        said |= {"rope_theta": config.rope_theta, "rope_scaling": scaling}
    if config.arch == "encoder_decoder":
        said |= {"is_encoder_decoder": True, "forced_eos_token_id": None}
    return said


def _by_type(said: Any, file: Path) -> Architecture:
    kind = said.get("model_type") if isinstance(said, dict) else None
    for architecture in ARCHITECTURES:
        if kind == architecture.model_type:
            return architecture
    allowed = ", ".join(architecture.model_type for architecture in ARCHITECTURES)
    raise ValueError(
        f"{file}: model_type={kind}: not an architecture that this reads. Allowed: {allowed}"
    )


def _from_hf_config(
    architecture: Architecture, said: dict[str, Any], file: Path
) -> TransformerConfig:
    complete = {**architecture.silent, **said}
    wrong = [
        f"{key}={complete[key]} (only {' or '.join(map(str, allowed))} computes the same)"
        for key, allowed in architecture.required_hf_values.items()
        if complete.get(key, allowed[0]) not in allowed
    ]
    ours = dict(architecture.switches)
    for name, theirs in architecture.settings.items():
        values = {key: complete.get(key) for key in theirs.split()}
        ours[name] = values[theirs.split()[0]]
        if len(set(values.values())) > 1:
            wrong.append(
                " with ".join(f"{key}={value}" for key, value in values.items())
                + " (only equal ones)"
            )
        elif ours[name] is None and name not in ("kv_heads", "head_dim", "d_ff"):
            wrong.append(f"no {theirs}")
    if architecture.switches["position"] == "rotary":
        wrong += _rotary(complete, ours)
    if wrong:
        raise ValueError(f"{file}: {architecture.name} with {'; '.join(wrong)}")
    ours["kv_heads"] = ours.get("kv_heads") or ours["heads"]
    ours["head_dim"] = ours.get("head_dim") or ours["d_model"] // ours["heads"]
    ours["d_ff"] = ours["d_ff"] or 4 * ours["d_model"]
    return TransformerConfig(**ours, initialisation="gpt2")


def _rotary(said: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Put theta and scaling into our settings, and say what else there is."""
    rope = {**(said.get("rope_scaling") or said.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    ours["rope_theta"] = float(rope.get("rope_theta") or said.get("rope_theta") or 10000.0)
    wrong = []
    if kind == "llama3":
        rope.setdefault("original_max_position_embeddings", said.get("max_position_embeddings"))
        wrong += [
            f"llama3 rotary scaling without {name}"
            for name in ROPE_SCALING
            if rope.get(name) is None
        ]
        ours["rope_scaling"] = tuple((name, float(rope.get(name) or 0)) for name in ROPE_SCALING)
    elif kind != "default":
        wrong.append(f"rotary scaling of type {kind} (only default and llama3 are known here)")
    elif any(isinstance(value, dict) for value in rope.values()):
        wrong.append("rotary parameters of each kind of layer")
    if (partial := rope.get("partial_rotary_factor", said.get("partial_rotary_factor"))) not in (
        None,
        1,
        1.0,
    ):
        wrong.append(f"partial_rotary_factor={partial} (only all of a head is turned here)")
    window, layers = said.get("sliding_window"), said.get("layer_types")
    slides = (
        "sliding_attention" in layers
        if layers
        else said.get("max_window_layers", 28) < (ours["layers"] or 0)
    )
    if said.get("use_sliding_window") and window and slides and window < (ours["context"] or 0):
        wrong.append(f"sliding_window={window} (attention reaches over the whole context here)")
    return wrong


def _names(architecture: Architecture, model: Transformer) -> dict[str, list[str]]:
    """Their name of each tensor, and ours of what it is put together from."""
    found: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        module, _, kind = name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", module)
        theirs = architecture.modules[re.sub(r"\.\d+\.", ".*.", module)].replace(
            "*", layer[1] if layer else ""
        )
        found.setdefault(f"{theirs}.{kind}", []).append(name)
    return found


def _turned(architecture: Architecture, theirs: str, tensor: Tensor) -> Tensor:
    return tensor.T if tensor.ndim == 2 and re.search(architecture.transposed, theirs) else tensor


def _constants(config: TransformerConfig) -> dict[str, Tensor]:
    """What Pegasus' files hold beside its parameters."""
    if config.position != "sinusoidal":
        return {}
    table = sinusoidal(torch.arange(config.context)[None], config.d_model)[0]
    names = (f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder"))
    return {name: table.clone() for name in names} | {
        "final_logits_bias": torch.zeros(1, config.vocab_size)
    }


def _copies(config: TransformerConfig) -> list[str]:
    """Where Pegasus has the embedding again, if its head has one of its own."""
    is_copied = config.arch == "encoder_decoder" and not config.tie_embeddings
    return (
        [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        if is_copied
        else []
    )


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the parts that model.safetensors.index.json names."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(
            {Path(name).name for name in json.loads(index.read_text())["weight_map"].values()}
        )
    elif not (folder / names[0]).is_file() and (
        pickled := sorted(path.name for path in folder.glob("*.bin"))
    ):
        raise ValueError(
            f"{folder}: has its weights as {', '.join(pickled)} only, and loading such a file can run any code. Have "
            f"transformers write them as safetensors: from_pretrained(...), then save_pretrained(...)"
        )
    weights: dict[str, Tensor] = {}
    for name in names:
        try:
            weights |= load_file(folder / name)
        except SafetensorError as error:
            raise ValueError(f"{folder / name}: damaged ({error})") from error
    return weights


def _our_weights(
    architecture: Architecture, model: Transformer, weights: dict[str, Tensor], folder: Path
) -> Mapping[str, Tensor]:
    names, shapes = (
        _names(architecture, model),
        {name: tuple(p.shape) for name, p in model.named_parameters()},
    )
    base = architecture.modules["embedding"].split(".")[0] + "."
    if not any(
        name.startswith(base) for name in weights
    ):  # saved without a head, as GPT-2 itself was
        weights = {
            name if name in names else base + name: tensor for name, tensor in weights.items()
        }
    ours, wrong = {}, []
    for theirs, parts in names.items():
        rows = [shapes[name][0] for name in parts]
        expected = (sum(rows), *shapes[parts[0]][1:])
        tensor = _turned(architecture, theirs, weights.pop(theirs, torch.empty(0)))
        if tuple(tensor.shape) != expected:
            wrong.append(f"{theirs} is {list(tensor.shape) if tensor.numel() else 'missing'}")
            continue
        for name, part in zip(parts, tensor.split(rows), strict=True):
            ours[name] = part.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for name, value in _constants(model.config).items():
        given = weights.pop(name, value)
        if given.shape != value.shape or not torch.allclose(given.float(), value, atol=1e-2):
            wrong.append(f"{name} is not what {architecture.name} computes")
    for name in _copies(model.config):
        given = weights.pop(name, torch.empty(0))
        if "embedding.weight" in ours and not torch.equal(given.float(), ours["embedding.weight"]):
            wrong.append(f"{name} is another embedding")
    for name in weights:
        if not (NOT_PARAMETERS.search(name) or (model.config.tie_embeddings and TIED.search(name))):
            wrong.append(f"{name} has no place here")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{folder}: its weights are not those of its config.json: {'; '.join(wrong[:5])}{more}"
        )
    return ours
