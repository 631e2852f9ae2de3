"""Generation with a key/value cache: greedy, temperature, top-k, top-p (nucleus, arXiv 1904.09751).

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptexp.model.transformer import Transformer


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_k 0 and top_p 1 do not restrict."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"{self}: temperature and top_k must be at least 0, top_p above 0 and at most 1")


@torch.inference_mode()
def generate(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling = Sampling(),
) -> list[list[int]]:
    """New tokens for each prompt, without the stop token that ends them.

    Prompts of unequal length are padded on the left; a prompt that leaves no room in the context loses its beginning.
    Each sequence draws from a generator of its own, seeded by (sampling.seed, its place in `prompts`).

    Raises:
        ValueError: a prompt is empty, or max_new_tokens does not fit into the context.
    """
    room = model.config.context - max_new_tokens
    if room < 1 or max_new_tokens < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: must be between 1 and {model.config.context - 1}, "
            f"one less than the context"
        )
    if not all(prompts):
        raise ValueError("a prompt has no tokens")
    prompts = [prompt[-room:] for prompt in prompts]
    device = model.embedding.weight.device
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    cache = model.new_cache(len(prompts), longest + max_new_tokens)
    generators = [torch.Generator().manual_seed(sampling.seed * 1_000_003 + i) for i in range(len(prompts))]
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    said: list[Tensor] = []
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            hidden = model(tokens, cache=cache, starts=starts if int(starts.max()) > 0 else None)
            logits = model.head(hidden[:, -1]).float()  # [B, V]
            chosen = choose(logits, sampling, generators)  # [B]
            said.append(chosen)
            finished |= chosen == stop
            if bool(finished.all()):
                break
            tokens = chosen[:, None]
    finally:
        model.train(was_training)
    rows = torch.stack(said, dim=1).tolist()
    return [row[: row.index(stop)] if stop in row else row for row in rows]


def choose(logits: Tensor, sampling: Sampling, generators: list[torch.Generator]) -> Tensor:
    """The next token of each sequence: logits [B, V] -> [B]."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = restrict(logits / sampling.temperature, sampling.top_k, sampling.top_p)
    probabilities = logits.softmax(dim=-1).cpu()
    drawn = [torch.multinomial(row, 1, generator=g) for row, g in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn).to(logits.device)


def restrict(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits [B, V] with -inf for what is outside the k most likely or outside the nucleus of mass p."""
    if top_k and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1:
        ordered, places = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, places, before >= top_p)
        logits = logits.masked_fill(outside, -torch.inf)
    return logits
