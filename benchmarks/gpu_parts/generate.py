"""Greedy generation next to transformers, on the same weights at the shape of GPT-2.

    python benchmarks/gpu.py --only generate

Prompts of 16 tokens, 128 new ones. "same tokens": those that transformers generates in float32.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from decoding import PROMPT_LENGTH, random_model, to_transformers
from measuring import Part, synchronize

from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer

BATCHES = (1, 8, 64)
NEW_TOKENS = 128
REPEATS = 3
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    part = Part(__doc__)
    transformers.utils.logging.disable_progress_bar()
    ours = random_model("1M" if part.options.toy else "124M", "gpt2")
    theirs = to_transformers(ours)
    ours.to(part.options.device)
    theirs.to(part.options.device)
    for batch in BATCHES:
        compare(part, ours, theirs, batch)


def compare(part: Part, model: Transformer, theirs: Any, batch: int) -> None:
    """Report the speed of both, in each format of the weights, for prompts of random tokens."""
    new_tokens = 16 if part.options.toy else NEW_TOKENS
    inputs = torch.randint(model.config.vocab_size, (batch, PROMPT_LENGTH))
    prompts = [Prompt(tuple(row)) for row in inputs.tolist()]
    words = {
        "inputs": inputs.to(part.options.device),
        "attention_mask": torch.ones_like(inputs).to(part.options.device),
        "max_new_tokens": new_tokens,
        "do_sample": False,
    }
    expected: list[list[int]] = []
    for weights, dtype in FORMATS.items():
        theirs.to(dtype)
        generator = Generator(model, eos=-1, weights=weights)
        answers, seconds = measure(part, partial(generator.generate, prompts, new_tokens))
        tokens, other_seconds = measure(part, partial(theirs.generate, **words))
        expected = expected or tokens[:, PROMPT_LENGTH:].tolist()
        name, total = f"{weights}, batch {batch}", batch * new_tokens
        part.report(f"{name}: speed", total / seconds, "tokens/s")
        part.report(f"{name}: transformers", total / other_seconds, "tokens/s")
        part.report(f"{name}: against transformers", other_seconds / seconds, "times")
        same = sum(answer == row for answer, row in zip(answers, expected, strict=True))
        part.report(f"{name}: rows with the same tokens", f"{same} of {batch}")


def measure(part: Part, method: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call, and the median of its seconds after a first one."""
    result, seconds = method(), []
    for _ in range(1 if part.options.toy else REPEATS):
        synchronize(part.options.device)
        started = time.perf_counter()
        method()
        synchronize(part.options.device)
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


if __name__ == "__main__":
    main()
