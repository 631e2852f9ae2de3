"""Small models for tests."""

import torch

from gptexp.generation.generator import GREEDY, Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer, TransformerConfig

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14]]
SHAPE = {
    "vocab_size": 50,
    "layers": 2,
    "d_model": 32,
    "heads": 4,
    "kv_heads": 2,
    "d_ff": 48,
    "context": 24,
}
GPT2 = {
    "position": "learned",
    "norm": "layer",
    "feed_forward": "gelu",
    "qk_norm": False,
    "bias": True,
    "kv_heads": 4,
}
KINDS = [
    {},
    GPT2,
    {"feed_forward": "relu2", "tie_embeddings": False, "position": "sinusoidal"},
    {"arch": "prefix"},
    {"window": 4, "window_pattern": "SL"},
    {"arch": "encoder_decoder"},
    {**GPT2, "arch": "encoder_decoder", "position": "sinusoidal"},
]
EXPERTS = {"experts": 4, "shared_experts": 1}


def a_model(**switches) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SHAPE, **switches}))
    for parameter in model.parameters():  # zero-initialised outputs would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def generate(
    model, prompts, max_new_tokens, eos=-1, sampling=GREEDY, weights="float32", **options
) -> list[list[int]]:
    """Answers to lists of token numbers."""
    prompts = [Prompt(tuple(prompt)) for prompt in prompts]
    generator = Generator(model, eos, weights)
    return generator.generate(prompts, max_new_tokens, sampling, **options)
