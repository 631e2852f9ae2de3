"""Whether metrics of different runs are computed on the same held-out data; otherwise no number compares them."""

import json
from collections.abc import Sequence

from gptexp.comparing.run_records import RunRecords, split_name, split_of
from gptexp.wording import format_count

OF_TOKENS = ("loss", "perplexity")  # per token: they depend on the tokenizer
OF_LOSS = (*OF_TOKENS, "bits_per_byte")
# Settings that say which tokens a loss is of.
TARGET_SETTINGS = ("task.loss_on_prompt", "task.mask_fraction", "task.whole_words")

# Metrics that gptexp ships. A metric of a plugin has a verdict where it is the primary metric of its task.
HIGHER_IS_BETTER = {
    **dict.fromkeys((*OF_LOSS, "word_error_rate", "distortion", "repeated"), False),
    **dict.fromkeys(
        ("exact_match", "bleu", "chrf", "f1", "rouge1", "rouge2", "rougeL", "names"), True
    ),
    **dict.fromkeys(("support", "word_accuracy", "accuracy"), True),
    **dict.fromkeys(("exact", "reward_accuracy", "reward_margin", "word_recall"), True),
}


def higher_is_better(runs: Sequence[RunRecords], metric: str) -> bool | None:
    """Return whether a higher value of a metric is better; None where nothing says so."""
    leaf = split_name(metric)[1]
    for run in runs:
        if split_name(run.primary_metric)[1] == leaf and "higher_is_better" in run.result:
            return bool(run.result["higher_is_better"])
    return HIGHER_IS_BETTER.get(leaf)


def explain_incomparable(one: RunRecords, other: RunRecords, metric: str) -> str | None:
    """Return why a metric of two runs does not compare, as a phrase; None where it does."""
    split, leaf = split_of(metric), split_name(metric)[1]
    if one.settings.get("task.kind") != other.settings.get("task.kind"):
        kinds = [str(run.settings.get("task.kind")) for run in (one, other)]
        return f"they have different tasks, {' and '.join(kinds)}"
    return (
        _explain_loss(one, other, split, leaf)
        if leaf in OF_LOSS
        else _explain_answers(one, other, split)
    )


def _explain_loss(one: RunRecords, other: RunRecords, split: str, leaf: str) -> str | None:
    for key in TARGET_SETTINGS:
        choices = [run.settings.get(key) for run in (one, other)]
        if None not in choices and choices[0] != choices[1]:
            words = " and ".join(json.dumps(choice) for choice in choices)
            return f"their loss is of different tokens: {key} differs, {words}"
    tokens = [run.held_out_tokens(split) for run in (one, other)]
    targets = _count_targets(one, other, split)
    if None not in tokens and tokens[0] == tokens[1]:
        if targets[0] != targets[1]:
            counts = ["all" if count is None else f"{count:,.0f}" for count in targets]
            return (
                f"their loss is of different parts of the {split} split: {' and '.join(counts)} of "
                f"its predicted tokens"
            )
        return None
    texts = [run.held_out_texts(split) for run in (one, other)]
    if leaf not in OF_TOKENS and None not in texts and texts[0] == texts[1]:
        is_sample = any(f"{split}/targets" in run.metrics for run in (one, other))
        return "their loss is of parts of the split" if is_sample else None
    if None in tokens:
        return f"a run does not record its {split} split"
    if texts[0] == texts[1] and leaf in OF_TOKENS:
        return f"{leaf} is per token, and their tokens differ"
    return f"their {split} splits differ"


def _count_targets(one: RunRecords, other: RunRecords, split: str) -> list[float | None]:
    """Return the number of predicted tokens that the loss of either run is of; None: all of the split."""
    kept: list[float | None] = [run.count_targets(split) for run in (one, other)]
    return kept if all(kept) else [run.metrics.get(f"{split}/targets") for run in (one, other)]


def _explain_answers(one: RunRecords, other: RunRecords, split: str) -> str | None:
    ids = [run.example_ids(split) for run in (one, other)]
    if all(ids):
        if ids[0] == ids[1]:
            return None
        counts = " and ".join(f"{len(part):,}" for part in ids)
        return (
            f"they are scored on different {split} examples: {counts}, of which both have "
            f"{format_count(len(ids[0] & ids[1]), 'example')}"
        )
    texts = [run.held_out_texts(split) for run in (one, other)]
    if None in texts:
        return f"a run does not record its {split} split"
    if texts[0] != texts[1]:
        return f"their {split} splits differ"
    counts_asked = [run.settings.get("task.test_examples") for run in (one, other)]
    if counts_asked[0] != counts_asked[1]:
        return f"task.test_examples differs: {counts_asked[0]} and {counts_asked[1]}"
    return None
