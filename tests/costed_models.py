"""Models of which parameters, operations and bytes are counted."""

import gc
from itertools import accumulate

import torch
from models import GPT2

from gptexp.model import Transformer, TransformerConfig

BATCH, TOKENS, SOURCE = 3, 20, 12
SHAPE = {
    "vocab_size": 96,
    "layers": 2,
    "d_model": 32,
    "heads": 4,
    "kv_heads": 2,
    "d_ff": 80,
    "context": 64,
}
PAIR = {"arch": "encoder_decoder"}
MODELS = {
    "modern": {},
    "gpt2": GPT2,
    "relu2 untied": {"feed_forward": "relu2", "tie_embeddings": False},
    "wide heads, one key": {"head_dim": 16, "kv_heads": 1},
    "dropout": {"dropout": 0.1},
    "gpt2 dropout": {**GPT2, "dropout": 0.1},
    "prefix": {"arch": "prefix"},
    "encoder": {"arch": "encoder", "num_sequence_classes": 2, "qk_norm": False},
    "tagger": {"arch": "encoder", "num_token_classes": 5, "bias": True},
    "modern pair": PAIR,
    "sinusoidal pair": {**GPT2, **PAIR, "position": "sinusoidal"},
    "experts": {"experts": 4, "experts_per_token": 2},
    "gpt2 experts and shared ones": {**GPT2, "bias": False, "experts": 4, "shared_experts": 2},
    "pair dropout": {**PAIR, "dropout": 0.1, "tie_embeddings": False, "feed_forward": "relu2"},
}
GPT3 = {
    **GPT2,
    "vocab_size": 50257,
    "layers": 96,
    "d_model": 12288,
    "heads": 96,
    "kv_heads": 96,
    "d_ff": 49152,
    "context": 2048,
}


def a_model(**switches):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**{**SHAPE, **switches})).train()


def losses(model, batch=BATCH, tokens=TOKENS, source=SOURCE):
    """The loss of a batch as `cost` counts it, and what names it there."""
    given = (
        {"prefix": torch.full((batch,), source)}
        if model.encoder or model.config.arch == "prefix"
        else {}
    )
    if model.config.arch == "encoder":
        given = {"lengths": torch.full((batch,), tokens - 1)}
    if model.config.num_sequence_classes:
        given["labels"] = torch.zeros(batch, dtype=torch.long)
        given |= {
            "prefix": torch.full((batch,), tokens // 2),
            "lengths": torch.full((batch,), tokens),
        }
    ids = torch.randint(5, (batch, tokens + (source - 1 if model.encoder else 0)))
    loss = model.loss(ids, ids, **given)
    return loss.targets + loss.labels + loss.auxiliary, {"source": source} if model.encoder else {}


def peak(make, steps):
    """Most bytes that torch has allocated at once on the CPU in `steps` of the model that is made."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step = make()
        for _ in range(steps):
            step()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return max(
        accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    )
