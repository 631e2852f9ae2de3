"""Tensors of model.safetensors under the names of transformers, from our parameters and back."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from gptexp.model.config import TransformerConfig
from gptexp.model.hf.architectures import Architecture
from gptexp.model.hf.int8 import open_quantized
from gptexp.model.positions import sinusoidal
from gptexp.model.transformer import Transformer
from gptexp.stored_tensors import StoredTensor, open_safetensors, stack_stored

# Tensors in files that are no parameters: causal masks, frequencies, and copies of a tied embedding.
NOT_PARAMETERS = re.compile(r"\.attn\.(masked_)?bias$|rotary_emb\.inv_freq$")
TIED = re.compile(r"^lm_head\.weight$|\.(en|de)coder\.embed_tokens\.weight$")


WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Part:
    """A parameter of ours, or the part of it that belongs to one expert."""

    name: str
    expert: int | None = None

    def select(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return this part of the parameters."""
        tensor = parameters[self.name]
        return tensor if self.expert is None else tensor[self.expert]


def hf_names(architecture: Architecture, model: Transformer) -> dict[str, list[Part]]:
    """Map each name in their files to our parameters that it holds, row after row.

    Raises:
        ValueError: the architecture has no such parameter.
    """
    names: dict[str, list[Part]] = {}
    for name, parameter in model.named_parameters():
        module, _, kind = name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", module)
        template = architecture.modules.get(re.sub(r"\.\d+\.", ".*.", module))
        if template is None:
            raise ValueError(f"{architecture.name} has no parameter like {name}")
        hf_name = f"{template.replace('*', layer[1] if layer else '')}.{kind}"
        if "#" not in hf_name:
            names.setdefault(hf_name, []).append(Part(name))
            continue
        for expert in range(len(parameter)):
            names[hf_name.replace("#", str(expert))] = [Part(name, expert)]
    return names


def to_hf_weights(
    architecture: Architecture, model: Transformer, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return all tensors of model.safetensors."""
    parameters = {name: p.detach().cpu().to(dtype) for name, p in model.named_parameters()}
    weights = _constants(model.config) | {
        name: parameters["embedding.weight"].clone() for name in _embedding_copies(model.config)
    }
    for hf_name, parts in hf_names(architecture, model).items():
        tensor = torch.cat([part.select(parameters) for part in parts])
        weights[hf_name] = _maybe_transpose(architecture, hf_name, tensor).contiguous()
    return weights


def open_weights(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of model.safetensors, or of the files that model.safetensors.index.json names.

    Matrices in int8 are returned in fp32.

    Raises:
        ValueError: a file is damaged, or there are only pickled weights.
        OSError: a file is missing or unreadable.
    """
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text("utf8"))["weight_map"]
            names = sorted({Path(name).name for name in weight_map.values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index}: damaged ({error!r})") from None
    elif not (folder / names[0]).is_file() and (
        pickled := sorted(path.name for path in folder.glob("*.bin"))
    ):
        raise ValueError(
            f"{folder}: has its weights as {', '.join(pickled)} only, and loading such a file can run any code. Have "
            f"transformers write them as safetensors: from_pretrained(...), then save_pretrained(...)"
        )
    weights: dict[str, StoredTensor] = {}
    for name in names:
        try:
            weights |= open_safetensors(folder / name)[0]
        except SafetensorError as error:
            raise ValueError(f"{folder / name}: damaged ({error})") from error
    return open_quantized(weights)


def from_hf_weights(
    architecture: Architecture, model: Transformer, weights: dict[str, StoredTensor], folder: Path
) -> dict[str, StoredTensor]:
    """Return our parameters in their files, by our names.

    Raises:
        ValueError: a tensor is missing, of another shape, not known, or not the constant that we compute.
    """
    names = hf_names(architecture, model)
    parameters = dict(model.named_parameters())
    base = architecture.modules["embedding"].split(".")[0] + "."
    if not any(name.startswith(base) for name in weights):  # saved without a head, as GPT-2 was
        weights = {name if name in names else base + name: x for name, x in weights.items()}
    ours, wrong = {}, []
    for hf_name, parts in names.items():
        shapes = [part.select(parameters).shape for part in parts]
        rows = [shape[0] for shape in shapes]
        stored = weights.pop(hf_name, None)
        if stored is None:
            wrong.append(f"{hf_name} is missing")
            continue
        if stored.dtype not in WEIGHT_DTYPES:
            wrong.append(f"{hf_name} is quantised ({str(stored.dtype).removeprefix('torch.')})")
            continue
        if len(stored.shape) == 2 and re.search(architecture.transposed, hf_name):
            stored = stored.transpose()
        if stored.shape != (sum(rows), *shapes[0][1:]):
            wrong.append(f"{hf_name} is {list(stored.shape)}")
            continue
        for part, start, count in zip(parts, accumulate(rows, initial=0), rows, strict=False):
            ours[part] = stored.rows(start, count)
    for name, value in _constants(model.config).items():
        theirs = weights.pop(name).read_all() if name in weights else value
        if theirs.shape != value.shape or not torch.allclose(theirs.float(), value, atol=1e-2):
            wrong.append(f"{name} is not what {architecture.name} computes")
    for name in _embedding_copies(model.config):
        copy, embedding = weights.pop(name, None), ours.get(Part("embedding.weight"))
        if embedding is not None and not (
            copy is not None and torch.equal(copy.read_all().float(), embedding.read_all().float())
        ):
            wrong.append(f"{name} is another embedding")
    for name in weights:
        if not (NOT_PARAMETERS.search(name) or (model.config.tie_embeddings and TIED.search(name))):
            wrong.append(f"{name} has no place here")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{folder}: its weights are not those of its config.json: {'; '.join(wrong[:5])}{more}"
        )
    by_name: dict[str, list[StoredTensor]] = {}
    for part, stored in ours.items():
        by_name.setdefault(part.name, []).append(stored)
    return {
        name: tensors[0] if Part(name) in ours else stack_stored(tensors)
        for name, tensors in by_name.items()
    }


def _maybe_transpose(architecture: Architecture, hf_name: str, tensor: Tensor) -> Tensor:
    is_transposed = tensor.ndim == 2 and re.search(architecture.transposed, hf_name)
    return tensor.T if is_transposed else tensor


def _constants(config: TransformerConfig) -> dict[str, Tensor]:
    """Return the tensors in Pegasus' files that are no parameters."""
    if config.position != "sinusoidal":
        return {}
    table = sinusoidal(torch.arange(config.context)[None], config.d_model)[0]
    names = (f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder"))
    bias = torch.zeros(1, config.vocab_size)
    return {name: table.clone() for name in names} | {"final_logits_bias": bias}


def _embedding_copies(config: TransformerConfig) -> list[str]:
    """Return the names under which Pegasus has the embedding again, if its head has one of its own."""
    if config.arch != "encoder_decoder" or config.tie_embeddings:
        return []
    return [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
