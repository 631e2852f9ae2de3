"""Causal language modelling (Radford et al. 2018): predict each token from those before it, over windows of a stream.

In a share of the documents the first sentence can follow the rest, after a separator, so that the model learns to
summarize as well (a lead-sentence variant of PEGASUS, Zhang et al. 2020, arXiv 1912.08777). Records can have an
answer, which follows the text in the same form: documents and tasks are mixed (Raffel et al. 2020, arXiv 1910.10683).
"""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from gptexp.config import schema
from gptexp.config.schema.mixture import explain_source
from gptexp.data.account import DataAccount
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.mixed_sequences import MixedSequences
from gptexp.data.datasets.packed_documents import PackedDocuments
from gptexp.data.datasets.windows import TokenWindows
from gptexp.data.mixed_store import MixedStore
from gptexp.data.token_ranges import TokenRanges
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import decode_after
from gptexp.loss import LossCounts, LossSums
from gptexp.sampling import Sampling
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.layout import EvalExample, Layout, cut_beyond
from gptexp.tasks.task import Task
from gptexp.tasks.unigram import unigram_loss

LEAD = re.compile(r"(?P<sentence>.{10,300}?[.!?])\s+(?P<rest>.*)", re.S)
ANSWERS = "texts have an answer"  # what the account counts
MIN_WORDS = 20  # behind a first sentence that is moved
MAX_PROMPT_TOKENS = 32  # of a held-out example


class TextStream(Layout):
    """Documents, each with an end-of-text token, in windows: text <eos>, or text <sep> answer <eos>."""

    stream = True

    def __init__(
        self,
        context: int,
        max_new_tokens: int,
        document_mask: bool = False,
        lead_last_fraction: float = 0.0,
        answers: bool = False,
        packing: str = "stream",
    ) -> None:
        self.context, self.max_new_tokens = context, max_new_tokens
        self.document_mask, self.lead_last_fraction = document_mask, lead_last_fraction
        self.answers, self.packing = answers, packing
        self.fields = ("text", "answer") if answers else ("text",)

    @property
    def learned_fields(self) -> tuple[str, ...]:
        return self.fields

    def fingerprint(self) -> dict[str, Any]:
        fingerprint: dict[str, Any] = {"layout": "text eos"}
        if self.lead_last_fraction:
            fingerprint["lead_last_fraction"] = self.lead_last_fraction
            fingerprint["context"] = self.context
        if self.answers:
            fingerprint |= {"answers": True, "context": self.context}
        return fingerprint

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        texts = tokenizer.encode_batch([example.fields["text"] for example in examples])
        answers: list[list[int]] = [[]] * len(examples)
        if self.answers:
            answers = tokenizer.encode_batch([example.fields["answer"] for example in examples])
        return [
            self._sequence(*parts, tokenizer)
            for parts in zip(examples, texts, answers, strict=True)
        ]

    def _sequence(
        self, example: Example, text: list[int], answer: list[int], tokenizer: Tokenizer
    ) -> TokenizedExample:
        if not answer:
            tokens = self._document(example, text, tokenizer)
            return TokenizedExample(tokens, targets=len(tokens))
        room = max(1, self.context - len(answer) - 1)
        setting = f"model.context={self.context} leaves {room} tokens beside its answer"
        tokens = [*text[:room], tokenizer.sep, *answer, tokenizer.eos]
        cuts = cut_beyond(room, len(text), "text", setting)
        notes = ((ANSWERS, example.fields["answer"]),)
        if cuts:  # the store counts the bytes of the fields
            source = example.fields["text"]
            end = tokenizer.encode_with_offsets(source)[1][room - 1][1]
            example.fields = {**example.fields, "text": source[:end]}
        return TokenizedExample(tokens, targets=len(tokens), cuts=cuts, notes=notes)

    def objection(self, account: DataAccount) -> str:
        if self.answers and ANSWERS not in account.notes:
            return (
                "task.answers=true: no record has the field 'answer'. Name it with data.fields.answer=..., "
                "or leave task.answers out"
            )
        return ""

    def _document(self, example: Example, text: list[int], tokenizer: Tokenizer) -> list[int]:
        if not example.ends_document:
            return text
        lead = self._split_lead(example.fields["text"]) if example.split == "train" else None
        if lead is None:
            return [*text, tokenizer.eos]
        sentence, rest = tokenizer.encode_batch(list(lead))
        room = max(1, self.context - len(sentence) - 2)
        tail = [*rest[room:], tokenizer.eos] if rest[room:] else []
        return [*rest[:room], tokenizer.sep, *sentence, tokenizer.eos, *tail]

    def _split_lead(self, text: str) -> tuple[str, str] | None:
        """Split a document into its first sentence and the rest; None where it stays as it is.

        The choice follows from the text alone.
        """
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
        match = LEAD.fullmatch(text) if number < self.lead_last_fraction else None
        if match is None or len(match["rest"].split()) < MIN_WORDS:
            return None
        return " ".join(match["sentence"].split()), match["rest"]

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        if isinstance(store, MixedStore):
            return self._mixed_dataset(store, split, seed)
        if self.packing == "best_fit" and seed is not None:
            return PackedDocuments(store, split, self.context, seed, self.document_mask)
        return TokenWindows(store, split, self.context, seed, self.document_mask)

    def _mixed_dataset(self, store: MixedStore, split: str, seed: int | None) -> SequenceDataset:
        """Return the sequences of all sources; for a look at a held-out split, those of the first that has it."""
        sources = list(store.sources_with(split).values())
        if seed is None:
            return self.dataset(sources[0], split, None)
        datasets = []
        for name, source in store.sources_with(split).items():
            with explain_source(name):
                datasets.append(self.dataset(source, split, seed))
        return MixedSequences(datasets, store.order, seed, list(store.blocks.values()))

    def prompt(self, input: str, tokenizer: Tokenizer) -> Prompt:
        return Prompt((*tokenizer.bos_ids, *(tokenizer.encode(input) or [tokenizer.eos])))

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        """Yield pieces from evenly spaced places of the stream, with the text that follows each in its document.

        No piece comes twice: a short split yields fewer than `count`. The sources of a mixture yield equally many.
        """
        if isinstance(store, MixedStore):
            sources = store.sources_with(split).values()
            for number, source in enumerate(sources):
                share = (count + number) // len(sources)
                yield from self.eval_examples(source, split, share) if share else ()
            return
        tokens, decode, count = store.tokens(split), store.tokenizer.decode, count or 1
        prompt = min(self.context - self.max_new_tokens, MAX_PROMPT_TOKENS)
        places = len(tokens) - prompt - self.max_new_tokens
        if places < count:  # some texts that follow are shorter
            places = len(tokens) - prompt - 1
        starts = np.linspace(0, max(0, places - 1), num=count, dtype=int).tolist()
        pieces = (
            find_piece(tokens, start, prompt, self.max_new_tokens, store.tokenizer.eos)
            for start in starts
        )
        for start, middle, end in dict.fromkeys(filter(None, pieces)):
            before = tokens[start:middle].tolist()
            yield EvalExample(
                decode(before), decode_after(decode, before)(tokens[middle:end].tolist())
            )


def find_piece(
    tokens: TokenRanges | np.ndarray, start: int, before: int, after: int, eos: int
) -> tuple[int, int, int] | None:
    """Return the start, middle and end of a piece of one document, at `start` or in a later document; None: no piece.

    It has `before` tokens before its middle and up to `after` behind it. A shorter document is divided in halves.
    """
    is_beginning = start == 0 or tokens[start - 1 : start][0] == eos
    while start < len(tokens):
        ends = np.flatnonzero(tokens[start : start + before + after] == eos)
        length = int(ends[0]) if len(ends) else min(before + after, len(tokens) - start)
        if length > before:
            return start, start + before, start + length
        if is_beginning and length >= 2:
            return start, start + length // 2, start + length
        start, is_beginning = start + length + 1, True
    return None


class Pretrain(Task):
    primary_metric = "bits_per_byte"
    higher_is_better = False
    loss_baseline = "unigram model"

    def __init__(self, config: schema.PretrainConfig, model: schema.ModelConfig) -> None:
        max_new_tokens = min(config.max_new_tokens, model.context // 2)
        layout = TextStream(
            model.context,
            max_new_tokens,
            config.document_mask,
            config.lead_last_fraction,
            config.answers,
            config.packing,
        )
        answerer = GenerateText(layout, max_new_tokens, Sampling(temperature=0.8))
        super().__init__(config, model, layout, answerer)

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        loss, targets = float(losses.targets), counts.targets
        sizes = store.meta["splits"][split]
        # Approximation for a part of the split (task.test_tokens): bytes and unigram loss are proportional to targets.
        share = targets / (len(store.tokens(split)) - 1)
        unigram = unigram_loss(store, split) * share
        metrics = {
            "loss": loss / targets,
            "perplexity": math.exp(min(loss / targets, 700.0)),
            "baseline/loss": unigram / targets,
            "baseline/perplexity": math.exp(unigram / targets),
        }
        # Bytes that the tokens do not give back cost nothing to predict: they do not count.
        encoded_bytes = sizes["bytes"] - sizes["lost_bytes"]
        if encoded_bytes:
            bits = math.log(2) * encoded_bytes * share
            metrics["bits_per_byte"] = loss / bits
            metrics["baseline/bits_per_byte"] = unigram / bits
        if sizes["lost_bytes"]:
            metrics["encoded_fraction"] = encoded_bytes / sizes["bytes"]
        return metrics

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        remarks = super().remarks(metrics, split, baseline, init)
        if (fraction := metrics.get(f"{split}/encoded_fraction")) is not None:
            remarks.append(
                f"bits_per_byte is of the {100 * fraction:.1f} % of the bytes that the tokenizer gives back"
            )
        return remarks
