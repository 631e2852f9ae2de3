"""Compare our preference losses with TRL's DPOTrainer: the same model, pairs and steps, losses and gradients.

    python benchmarks/dpo_against_trl.py

A model of two layers is exported for transformers. Both sides take 20 steps of SGD on pairs of random tokens, of
unequal lengths. Each row is a loss, with the largest difference over the steps: of the loss, and of the gradient of any
weight, relative to its largest entry. Seven seconds; needs TRL (the extra `dev`).

    loss                        loss   gradients   (20 steps, 4 pairs each)
    sigmoid                  4.8e-07     1.5e-06
    ipo                      7.6e-06       1e-06
    hinge                    3.3e-06       1e-06
    sigmoid + 0.3 sft        1.2e-06     1.6e-06
"""

import copy
import logging
import tempfile
import warnings
from pathlib import Path

import torch

from gptexp.data.batch import Batch, pairs_to_rows
from gptexp.data.datasets.preference_pairs import PairTokens, pad_pairs
from gptexp.loss import LossCounts, PreferenceLoss
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert
from gptexp.model.hf.weights import to_hf_weights
from gptexp.model.token_loss import compute_log_probs

STEPS, PAIRS, RATE = 20, 4, 0.05
PAD, EOS = 1, 0
SHAPE = TransformerConfig(
    vocab_size=120, layers=2, d_model=48, heads=4, kv_heads=2, d_ff=64, context=64
)
LOSSES = {
    "sigmoid": (PreferenceLoss("sigmoid", 0.1), ["sigmoid"], None),
    "ipo": (PreferenceLoss("ipo", 0.1), ["ipo"], None),
    "hinge": (PreferenceLoss("hinge", 0.5), ["hinge"], None),
    "sigmoid + 0.3 sft": (PreferenceLoss("sigmoid", 0.1, 0.3), ["sigmoid", "sft"], [1.0, 0.3]),
}


def make_model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    for parameter in model.parameters():  # zero-initialised outputs would hide mistakes
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def draw_pairs(step: int) -> list[PairTokens]:
    """Return the pairs of a step; answers end with the end-of-text token."""
    generator = torch.Generator().manual_seed(step)

    def draw(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(4, SHAPE.vocab_size, (length,), generator=generator).tolist()

    return [PairTokens(draw(2, 20), [*draw(1, 20), EOS], [*draw(1, 20), EOS]) for _ in range(PAIRS)]


def make_trainer(folder: Path, beta: float, loss_types: list[str], weights: list[float] | None):
    """Return TRL's trainer of the exported model. Its data are never read: `_compute_loss` takes batches."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = {f"w{number}": number for number in range(SHAPE.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),
        eos_token=f"w{EOS}",
        pad_token=f"w{PAD}",
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    arguments = DPOConfig(
        output_dir=str(folder / "trl"),
        beta=beta,
        loss_type=loss_types,
        loss_weights=weights,
        gradient_checkpointing=False,
        report_to=[],
        bf16=False,
        use_cpu=True,
    )
    rows = [{"prompt": "w5", "chosen": "w6", "rejected": "w7"}] * PAIRS
    return DPOTrainer(
        model,
        ref_model=copy.deepcopy(model),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def gradients_for_transformers(model: Transformer) -> dict[str, torch.Tensor]:
    """Return the gradients under the names that transformers gives to the weights."""
    gradients = copy.deepcopy(model)
    for parameter, original in zip(gradients.parameters(), model.parameters(), strict=True):
        parameter.data = original.grad
    return to_hf_weights(convert.architecture_of(model), gradients, torch.float32)


def compare(folder: Path, loss: PreferenceLoss, types: list[str], weights: list[float] | None):
    """Return the largest differences over all steps: of the loss, and of gradients."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    ours = make_model()
    reference = copy.deepcopy(ours)
    trainer = make_trainer(folder, loss.beta, types, weights)
    theirs, collate = trainer.model, DataCollatorForPreference(pad_token_id=PAD)
    loss_gap = gradient_gap = 0.0
    for step in range(STEPS):
        pairs = draw_pairs(step)
        tokens, targets = pad_pairs(pairs, PAD)
        with torch.no_grad():
            before = compute_log_probs(reference, pairs_to_rows(tokens), pairs_to_rows(targets))
        counts = LossCounts(sum(len(pair.chosen) for pair in pairs), PAIRS, 1)
        batch = Batch(tokens, targets, counts, reference=before.view(-1, 2), preference=loss)
        mine = ours.loss(**batch.inputs()).mean(counts)
        mine.backward()
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        examples = [dict(zip(names, map(list, pair), strict=True)) for pair in pairs]
        other = trainer._compute_loss(theirs, collate(examples), return_outputs=False)
        other.backward()
        loss_gap = max(loss_gap, abs(float(mine.detach()) - float(other.detach())))
        mapped = gradients_for_transformers(ours)
        for name, parameter in theirs.named_parameters():
            gap = (mapped[name] - parameter.grad).abs().max() / parameter.grad.abs().max()
            gradient_gap = max(gradient_gap, float(gap))
        for model in (ours, theirs):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= RATE * parameter.grad
                    parameter.grad = None
    return loss_gap, gradient_gap


def main() -> None:
    import datasets
    import transformers

    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"{'loss':<20}{'loss':>12}{'gradients':>12}   ({STEPS} steps, {PAIRS} pairs each)")
    with tempfile.TemporaryDirectory() as folder:
        convert.save(make_model(), Path(folder))
        for name, (loss, types, weights) in LOSSES.items():
            gaps = compare(Path(folder), loss, types, weights)
            print(f"{name:<20}" + "".join(f"{gap:>12.2g}" for gap in gaps), flush=True)


if __name__ == "__main__":
    main()
