"""Compare the speed of greedy decoding with `generate` of transformers, on the same weights in one process.

    python benchmarks/decoding.py                            three sizes, 1 and 2 threads, batches of 1 and 8
    python benchmarks/decoding.py --sizes 1M --repeats 3     half a minute
    python benchmarks/decoding.py --loss                     the loss of each weight format, on a run that it trains
    python benchmarks/decoding.py --loss --run outputs/pretrain-small-1a2b3c4d

Random weights, prompts of 16 tokens, medians over repeats in turn. "same": float32 generates the tokens that
transformers generates. "packing": seconds to pack our weights, not included in the speed; neither is loading theirs.
At 12.8 M parameters, bfloat16 is 2.3 to 3.3 times as fast as transformers (docs/recipes.md).
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional as F

from gptexp.checkpoints.load_model import load_run
from gptexp.config import compose
from gptexp.data.loader import HeldOutDataset
from gptexp.generation.cpu_decoder import FORMATS, CpuDecoder
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert
from gptexp.run import run
from gptexp.runs.run_folder import find_run
from gptexp.tasks.prepare import prepare

PROMPT_LENGTH = 16
GPT2 = {
    "position": "learned",
    "norm": "layer",
    "norm_eps": 1e-5,
    "feed_forward": "gelu",
    "qk_norm": False,
    "bias": True,
}
SIZES = {  # layers, d_model, heads, d_ff of gpt2 and of modern, vocab_size, new tokens
    "1M": (4, 128, 4, (512, 352), 2048, 128),
    "12M": (8, 320, 5, (1280, 896), 8192, 128),
    "124M": (12, 768, 12, (3072, 2048), 50257, 32),
}
TRAINED = ["task=pretrain", "model=small", "trainer.max_steps=200", "logger=none"]
WINDOWS = 32  # of held-out text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--loss", action="store_true", help="measure the loss instead of the speed")
    parser.add_argument("--run", help="a pretrained run; default: train one")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    if args.loss:
        print_losses(args.run)
        return
    print(
        f"| model | threads | batch | transformers, tokens/s | {' | '.join(FORMATS)} | same | packing |"
    )
    print(f"|{'---|' * (6 + len(FORMATS))}", flush=True)
    for size in args.sizes:
        for preset in ("gpt2", "modern"):
            for row in speeds(size, preset, args.threads, args.batches, args.repeats):
                print("| " + " | ".join(row) + " |", flush=True)


def speeds(
    size: str, preset: str, threads: list[int], batches: list[int], repeats: int
) -> Iterator[list[str]]:
    ours = random_model(size, preset)
    theirs = to_transformers(ours)
    max_new_tokens = SIZES[size][-1]
    million = sum(p.numel() for p in ours.parameters()) / 1e6
    for number in threads:
        torch.set_num_threads(number)
        for batch in batches:
            inputs = torch.randint(ours.config.vocab_size, (batch, PROMPT_LENGTH))
            prompts = [Prompt(tuple(row)) for row in inputs.tolist()]
            started = time.perf_counter()
            for name in FORMATS:
                CpuDecoder(ours, name, rows=batch)
            packing = (time.perf_counter() - started) / len(FORMATS)
            generators = {name: Generator(ours, eos=-1, weights=name) for name in FORMATS}
            methods: dict[str, Callable[[], Any]] = {
                "transformers": lambda inputs=inputs: theirs.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                )[:, PROMPT_LENGTH:].tolist(),
                **{
                    name: lambda generator=generator, prompts=prompts: generator.generate(
                        prompts, max_new_tokens
                    )
                    for name, generator in generators.items()
                },
            }
            answers = {name: method() for name, method in methods.items()}  # and warm
            times: dict[str, list[float]] = {name: [] for name in methods}
            for _ in range(repeats):
                for name, method in methods.items():
                    started = time.perf_counter()
                    method()
                    times[name].append(time.perf_counter() - started)
            speed = {
                name: batch * max_new_tokens / statistics.median(seconds)
                for name, seconds in times.items()
            }
            yield [
                f"{preset}, {million:.1f} M",
                str(number),
                str(batch),
                f"{speed['transformers']:,.0f}",
                *(
                    f"{speed[name]:,.0f} ({speed[name] / speed['transformers']:.2f}x)"
                    for name in FORMATS
                ),
                "yes" if answers["float32"] == answers["transformers"] else "NO",
                f"{packing:.2f}",
            ]


def random_model(size: str, preset: str) -> Transformer:
    layers, d_model, heads, d_ff, vocab_size, _ = SIZES[size]
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=vocab_size,
        layers=layers,
        d_model=d_model,
        heads=heads,
        kv_heads=heads,
        d_ff=d_ff[preset == "modern"],
        context=1024,
        **(GPT2 if preset == "gpt2" else {}),
    )  # type: ignore[arg-type]
    model = Transformer(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:  # zeros would give every model the same answer
            torch.nn.init.normal_(parameter, std=d_model**-0.5)
    return model.eval()


def to_transformers(model: Transformer) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        architecture = convert.save(model, Path(folder))
        theirs = getattr(transformers, architecture.auto_class).from_pretrained(folder)
    theirs.generation_config.pad_token_id = 0
    return theirs.eval()


def print_losses(run_name: str | None) -> None:
    folder = find_run(run_name) if run_name else run(compose.compose_config(TRAINED))
    model, _ = load_run(folder)
    prepared = prepare(folder.config(), folder.tokenizer)
    batch = HeldOutDataset(prepared.task.layout.dataset(prepared.store, "val", None), WINDOWS)[0]
    B, T = batch.tokens.shape  # noqa: N806
    losses = {}
    for name in FORMATS:
        decoder, cache, total = CpuDecoder(model, name, rows=B), model.new_cache(B, T), 0.0
        with torch.inference_mode():
            for t in range(T):
                logits = decoder.step(batch.tokens[:, t], cache)
                total += float(
                    F.cross_entropy(logits, batch.targets[:, t], reduction="sum", ignore_index=-100)
                )
        losses[name] = total / int((batch.targets >= 0).sum())
    print(
        f"{folder.path}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {B} windows of {T}"
    )
    print("| weights | nats a token | change |")
    print("|---|---|---|")
    for name, loss in losses.items():
        print(f"| {name} | {loss:.5f} | {loss - losses['float32']:+.5f} |")


if __name__ == "__main__":
    main()
