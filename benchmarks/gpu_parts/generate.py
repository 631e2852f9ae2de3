"""Generation next to transformers, on the same weights at the shape of GPT-2, and sampling next to greedy decoding.

    python benchmarks/gpu.py --only generate
    python benchmarks/gpu.py --only generate-xl       bf16 against float32 with 1.5 B parameters

Prompts of 16 tokens, 128 new ones. "rows with the same tokens": those that transformers generates in float32. A row
counts as the same, too, where it leaves them at a tie: the logits of both tokens differ by less than MAX_TIE.
"""

import gc
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import transformers
from decoding import GPT2, PROMPT_LENGTH, random_model, to_transformers
from measuring import SEED, Part, synchronize

from gptexp.distributed.hardware import GIB
from gptexp.generation.generator import GREEDY, Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer, TransformerConfig
from gptexp.sampling import Sampling

BATCHES = {"gpt2": (1, 8, 64), "modern": (1, 64)}
NEW_TOKENS = 128
REPEATS = 3
MAX_TIE = 1e-3  # of logits with a standard deviation of about 1
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAMPLED_ROWS, BEAM_PROMPTS, BEAMS = 128, 16, 4


def main() -> None:
    part = Part(__doc__, ("--xl", {"action": "store_true"}))
    if part.options.xl:
        compare_formats(part)
        return
    transformers.utils.logging.disable_progress_bar()
    for preset, batches in BATCHES.items():
        ours = random_model("1M" if part.options.toy else "124M", preset)
        plain = to_transformers(ours).to(part.options.device)
        theirs = {name: deepcopy(plain).to(dtype) for name, dtype in FORMATS.items()}
        ours.to(part.options.device)
        for batch in batches:
            compare(part, preset, ours, theirs, batch)
        if preset == "gpt2":
            compare_methods(part, ours)


def compare(
    part: Part, preset: str, model: Transformer, theirs: dict[str, Any], batch: int
) -> None:
    """Report the speed of both, in each format of the weights, for prompts of random tokens."""
    new_tokens, inputs = count_new_tokens(part), draw_tokens(model, batch)
    words = {
        "inputs": inputs.to(part.options.device),
        "attention_mask": torch.ones_like(inputs).to(part.options.device),
        "max_new_tokens": new_tokens,
        "do_sample": False,
    }
    expected: torch.Tensor | None = None
    for weights, other in theirs.items():
        generator = Generator(model, eos=-1, weights=weights)
        generate = partial(generator.generate, as_prompts(inputs), new_tokens)
        name, total = f"{preset}, {weights}, batch {batch}", batch * new_tokens
        answers, seconds, first = measure(part, generate)
        tokens, other_seconds, _ = measure(part, partial(other.generate, **words))
        expected = tokens if expected is None else expected
        part.report(f"{name}: speed", total / seconds, "tokens/s")
        part.report(f"{name}: transformers", total / other_seconds, "tokens/s")
        part.report(f"{name}: against transformers", other_seconds / seconds, "times")
        part.report(f"{name}: first call", first, "s")
        same = count_same_rows(answers, expected, theirs["float32"])
        part.report(f"{name}: share of rows with the same tokens", same / batch)


def count_same_rows(answers: list[list[int]], expected: torch.Tensor, reference: Any) -> int:
    """Count the answers that are those of `expected`, prompts included, or leave them at a tie of `reference`."""
    same = 0
    for answer, row in zip(answers, expected, strict=True):
        tokens = row[PROMPT_LENGTH:].tolist()
        different = [
            i for i, pair in enumerate(zip(answer, tokens, strict=True)) if len({*pair}) > 1
        ]
        if different:
            first = different[0]
            with torch.inference_mode():
                logits = reference(row[None, : PROMPT_LENGTH + first]).logits[0, -1]
            margin = float(logits[tokens[first]] - logits[answer[first]])
            print(f"token {first} differs, by {margin:.2g} of its logit", flush=True)
            if abs(margin) >= MAX_TIE:
                continue
        same += 1
    return same


def compare_methods(part: Part, model: Transformer) -> None:
    """Report the speed of sampling and of beam search next to greedy decoding of as many rows.

    The speed counts the tokens of answers: one answer for all beams of a prompt.
    """
    new_tokens, is_toy = count_new_tokens(part), part.options.toy
    generator = Generator(model, eos=-1)
    for name, sampling, prompts, beams in (
        ("sampling", Sampling(temperature=0.8, top_k=50), 4 if is_toy else SAMPLED_ROWS, 1),
        ("beam search", Sampling(num_beams=BEAMS), 2 if is_toy else BEAM_PROMPTS, BEAMS),
    ):
        seconds, greedy_seconds = (
            measure(part, partial(generator.generate, inputs, new_tokens, method))[1]
            for method, inputs in (
                (sampling, as_prompts(draw_tokens(model, prompts))),
                (GREEDY, as_prompts(draw_tokens(model, prompts * beams))),
            )
        )
        name += f", {prompts} prompts"
        part.report(f"{name}: speed", prompts * new_tokens / seconds, "tokens/s")
        part.report(
            f"{name}: against greedy decoding of {prompts * beams}",
            greedy_seconds / seconds,
            "times",
        )


def compare_formats(part: Part) -> None:
    """Report the speed and the memory of each format at the size of GPT-2 XL."""
    sizes = {"layers": 48, "d_model": 1600, "heads": 25, "kv_heads": 25, "d_ff": 6400}
    if part.options.toy:
        sizes = {"layers": 2, "d_model": 64, "heads": 2, "kv_heads": 2, "d_ff": 128}
    torch.manual_seed(SEED)
    with torch.device(part.options.device):
        model = Transformer(TransformerConfig(vocab_size=50_257, context=1024, **sizes, **GPT2))
    inputs, new_tokens = as_prompts(draw_tokens(model.eval(), 1)), count_new_tokens(part)
    for weights, dtype in FORMATS.items():
        if part.options.device == "cuda":
            model.to(dtype)  # in place: else the generator makes a copy
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        generator = Generator(model, eos=-1, weights=weights)
        _, seconds, _ = measure(part, partial(generator.generate, inputs, new_tokens))
        part.report(f"{weights}, batch 1: speed", new_tokens / seconds, "tokens/s")
        if part.options.device == "cuda":
            peak = torch.cuda.max_memory_allocated() / GIB
            part.report(f"{weights}, batch 1: peak memory", peak, "GiB")
        del generator  # it holds its weights and graphs
        gc.collect()


def measure(part: Part, method: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result of a call, the median of its seconds after two calls, and those of the first call."""
    seconds = []
    for _ in range(2 if part.options.toy else 2 + REPEATS):
        synchronize(part.options.device)
        started = time.perf_counter()
        result = method()
        synchronize(part.options.device)
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds[2:] or seconds[1:]), seconds[0]


def count_new_tokens(part: Part) -> int:
    return 16 if part.options.toy else NEW_TOKENS


def draw_tokens(model: Transformer, rows: int) -> torch.Tensor:
    return torch.randint(model.config.vocab_size, (rows, PROMPT_LENGTH))


def as_prompts(tokens: torch.Tensor) -> list[Prompt]:
    return [Prompt(tuple(row)) for row in tokens.tolist()]


if __name__ == "__main__":
    main()
