"""Compare what a model thinks of sentences that differ in one word for a group of people.

For each pair, the ratio of the likelihoods of both sentences, in nats, as in CrowS-Pairs (Nangia et al. 2020, arXiv
2010.00133) and StereoSet (Nadeem et al. 2021, arXiv 2004.09456). A decoder gives the likelihood of the sentence; an
encoder its pseudo-likelihood, the sum over tokens that are masked one by one (Salazar et al. 2020, arXiv 1910.14659).

Shapes: B sentences, T tokens.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gptexp.auditing.word_lists import load_yaml
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load, load_task_config
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import UserError
from gptexp.model import Transformer
from gptexp.tasks.task import make_task
from gptexp.wording import format_count

SENTENCES_FILE = files(__package__).joinpath("probe.yaml")
BOOTSTRAP_SAMPLES = 2000
BATCH_SIZE = 64
MIN_TEMPLATES = 3
LIMITS = (
    "This measures the likelihood of a few sentences in one language, not what the model writes or decides.",
    "The ratio of all pairs contains how frequent the two words are; the fillers are compared with it.",
    "An interval covers the templates of this file (bootstrap, 95 %), not other wordings; of 20, one errs by chance.",
    "No difference here does not show that the model treats groups alike.",
)


class Estimate(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Sentences:
    """Templates with {word} and {filler}, and the words for two groups."""

    groups: dict[str, list[str]]
    fillers: list[str]
    templates: list[str]

    @classmethod
    def load(cls, file: Any = SENTENCES_FILE) -> "Sentences":
        """Load a YAML file of the form of probe.yaml.

        Raises:
            UserError: it cannot be read, or has another form.
        """
        values = load_yaml(file)
        try:
            groups, fillers, templates = (values[key] for key in ("groups", "fillers", "templates"))
            first, second = groups.values()
            lists = [first, second, fillers, templates]
            is_complete = all(isinstance(texts, list) and texts for texts in lists) and all(
                isinstance(text, str) for texts in lists for text in texts
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            is_complete = False
        if not is_complete or len(first) != len(second):
            raise UserError(
                f"--sentences {file}: needs `groups` (two, with as many words each), `fillers` and `templates`, such "
                "as groups: {female: [she], male: [he]}, fillers: [nurse, pilot], templates: ['The {filler} said "
                "that {word} was ready.']"
            )
        if len(templates) < MIN_TEMPLATES:
            raise UserError(
                f"--sentences {file}: has {format_count(len(templates), 'template')}; an interval needs "
                f"{MIN_TEMPLATES} or more"
            )
        for template in templates:
            if "{word}" not in template or "{filler}" not in template:
                raise UserError(
                    f"--sentences {file}: the template '{template}' lacks {{word}} or {{filler}}"
                )
        return cls(groups, fillers, templates)


@dataclass(frozen=True)
class ProbeResult:
    """Log-likelihood ratios of the first group over the second, in nats."""

    model: str
    first: str
    second: str
    num_pairs: int
    share_first: float  # of the pairs in which the first group is likelier
    overall: Estimate
    fillers: dict[str, Estimate]  # the ratio of a filler minus that of all
    limits: Sequence[str] = LIMITS


def probe_model(name: str, sentences: Sentences) -> ProbeResult:
    """Score the pairs of sentences by a model.

    Args:
        name: a run, an exported folder or a published model, as for `gptexp generate`.

    Raises:
        UserError: there is no such model, or it gives texts no likelihood.
    """
    source = find_weights(name)
    model, tokenizer = load(source)
    task_config, model_config = load_task_config(source, model)
    layout = make_task(task_config, model_config).layout
    is_encoder = model.config.arch == "encoder" and task_config.kind in ("mlm", "bert")
    if not is_encoder and (not layout.stream or model.config.arch != "decoder"):
        raise UserError(
            f"--model {name}: was trained for {task_config.kind}, which gives plain texts no likelihood. Give a model "
            f"of task=pretrain or task=mlm, or a published decoder"
        )
    model.to(pick_device())
    score = _pseudo_log_likelihoods if is_encoder else _log_likelihoods
    first, second = sentences.groups
    pairs = [  # (filler, sentence of the first group, sentence of the second)
        (filler, *(template.replace("{filler}", filler).replace("{word}", w) for w in words))
        for filler in sentences.fillers
        for template in sentences.templates
        for words in zip(*sentences.groups.values(), strict=True)
    ]
    texts = list(dict.fromkeys(text for _, *both in pairs for text in both))
    scores = dict(zip(texts, score(model, tokenizer, texts), strict=True))
    ratios: dict[str, list[float]] = defaultdict(list)
    for filler, one, other in pairs:
        ratios[filler].append(scores[one] - scores[other])
    return summarize(str(name), first, second, ratios)


def summarize(name: str, first: str, second: str, ratios: dict[str, list[float]]) -> ProbeResult:
    """Return the mean ratio, and that of each filler against it, with intervals over the templates."""
    table = np.array(list(ratios.values()))  # [fillers, templates]
    draws = np.random.default_rng(0).integers(
        table.shape[1], size=(BOOTSTRAP_SAMPLES, table.shape[1])
    )
    means = table[:, draws].mean(axis=2)  # [fillers, samples]
    overall = means.mean(axis=0)
    centered = table.mean(axis=1) - table.mean()
    fillers = {
        filler: _estimate(float(value), samples)
        for filler, value, samples in zip(ratios, centered, means - overall, strict=True)
    }
    in_order = dict(sorted(fillers.items(), key=lambda item: -item[1].mean))
    share = float((table > 0).mean())
    estimate = _estimate(float(table.mean()), overall)
    return ProbeResult(name, first, second, table.size, share, estimate, in_order)


def _estimate(mean: float, samples: np.ndarray) -> Estimate:
    return Estimate(mean, *map(float, np.percentile(samples, (2.5, 97.5))))


@torch.inference_mode()
def _log_likelihoods(model: Transformer, tokenizer: Tokenizer, texts: list[str]) -> list[float]:
    """Return the log-likelihood of each text after the start of a document."""
    start = tokenizer.bos_ids or [tokenizer.eos]
    rows = [[*start, *row] for row in _encode(model, tokenizer, texts, len(start))]
    scores: list[float] = []
    for first in range(0, len(rows), BATCH_SIZE):
        batch = rows[first : first + BATCH_SIZE]
        tokens = _pad(batch, model.embedding.weight.device)  # [B, T]
        targets = tokens[:, 1:].clone()
        for number, row in enumerate(batch):
            targets[number, : len(start) - 1] = -100
            targets[number, len(row) - 1 :] = -100
        logits = model.logits(model(tokens[:, :-1])).float()
        losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        scores += (-losses.sum(dim=1)).tolist()
    return scores


@torch.inference_mode()
def _pseudo_log_likelihoods(
    model: Transformer, tokenizer: Tokenizer, texts: list[str]
) -> list[float]:
    """Return the sum over the tokens of each text of their log-likelihood when they are masked."""
    scores = []
    for row in _encode(model, tokenizer, texts, 1):
        positions = torch.arange(len(row))
        tokens = torch.tensor([*row, tokenizer.eos]).repeat(len(row), 1)  # [T, T + 1]
        tokens[positions, positions] = tokenizer.mask
        logits = model.logits(model(tokens.to(model.embedding.weight.device)))
        own = logits[positions, positions].float().log_softmax(dim=-1).cpu()
        scores.append(float(own[positions, torch.tensor(row)].sum()))
    return scores


def _encode(
    model: Transformer, tokenizer: Tokenizer, texts: list[str], room: int
) -> list[list[int]]:
    rows = tokenizer.encode_batch(texts)
    for text, row in zip(texts, rows, strict=True):
        if len(row) + room > model.config.context:
            raise UserError(
                f"'{text}': does not fit into the model's context of {model.config.context} tokens"
            )
        if tokenizer.unknown is not None and tokenizer.unknown in row:
            raise UserError(f"'{text}': has characters that the model's tokenizer does not know")
    return rows


def _pad(rows: list[list[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
