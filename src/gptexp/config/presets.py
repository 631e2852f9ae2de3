"""The switches that model.preset sets where they are null.

Each is an architecture of transformers, so that it can be exported: modern is Qwen3, as an encoder EuroBert; gpt2 is
GPT-2, as an encoder with decoder Pegasus.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "modern": {
        "position": "rotary",
        "norm": "rms",
        "norm_eps": 1e-6,
        "feed_forward": "swiglu",
        "qk_norm": True,
        "bias": False,
        "tie_embeddings": True,
        "initialisation": "zero",
    },
    "gpt2": {
        "position": "learned",
        "norm": "layer",
        "norm_eps": 1e-5,
        "feed_forward": "gelu",
        "qk_norm": False,
        "bias": True,
        "tie_embeddings": True,
        "initialisation": "gpt2",
    },
}
# Switches that differ from those of the preset with one arch: (preset, arch) -> switches.
ARCH_OVERRIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("modern", "encoder"): {"qk_norm": False},
    ("gpt2", "encoder_decoder"): {"position": "sinusoidal"},
}
