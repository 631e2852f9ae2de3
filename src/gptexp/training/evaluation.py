"""A full deterministic pass over a held-out split: loss, then generated answers scored next to the naive baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gptexp.data.batches import HeldOutBatches
from gptexp.data.progress import shown
from gptexp.data.store import Store
from gptexp.data.tokenizers import Tokenizer
from gptexp.model import Transformer
from gptexp.model.decoding import Sampling, generate
from gptexp.tasks import Task

BATCH = 32


@dataclass
class Evaluation:
    metrics: dict[str, float]  # SPLIT/loss, SPLIT/rougeL, SPLIT/baseline/rougeL, ...
    samples: list[dict[str, str]]  # input, reference, output


def evaluate(model: Transformer, task: Task, store: Store, split: str) -> Evaluation:
    """Metrics of `split` ("val" or "test") and a few samples; the model's mode is left as it was."""
    metrics = task.loss_metrics(store, split, *_loss(model, task, store, split))
    count = task.config.test_examples if task.generates else task.config.samples
    examples = list(task.held_out(store, split, count)) if count or task.generates else []
    outputs = answers(model, task, store.tokenizer, [example["source"] for example in examples])
    if task.generates:
        metrics |= task.score(outputs, examples)
        naive = task.score([task.baseline(example["source"]) for example in examples], examples)
        metrics |= {f"baseline/{name}": value for name, value in naive.items()}
    samples = [
        {"input": example["source"], "reference": example["target"], "output": output}
        for example, output in zip(examples, outputs, strict=True)
    ]
    return Evaluation({f"{split}/{name}": value for name, value in metrics.items()}, samples[: task.config.samples])


def answers(model: Transformer, task: Task, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """What the model says to each text; texts of similar length are computed together."""
    prompts = [task.prompt(text, tokenizer) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(prompts[i]))
    said: list[str] = [""] * len(texts)
    sampling = Sampling(task.temperature)
    starts = range(0, len(order), BATCH)
    for start in shown(starts, "generating", "batches", len(starts)):
        chosen = order[start : start + BATCH]
        rows = generate(model, [prompts[i] for i in chosen], task.max_new_tokens, tokenizer.eos, sampling)
        for i, row in zip(chosen, rows, strict=True):
            said[i] = tokenizer.decode(row)
    return said


@torch.inference_mode()
def _loss(model: Transformer, task: Task, store: Store, split: str) -> tuple[float, int]:
    """Nats summed over all targets of a split, and how many there are."""
    was_training, device = model.training, model.embedding.weight.device
    model.eval()
    loss, targets = 0.0, 0
    batches = HeldOutBatches(task.sequences(store, split, None), BATCH)
    for number in shown(range(len(batches)), f"{split} loss", "batches", len(batches)):
        batch = batches[number].to(device)
        loss += float(model.loss(batch.tokens, batch.targets, batch.documents))
        targets += batch.total_targets
    model.train(was_training)
    return loss, targets
