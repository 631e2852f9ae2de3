"""Open the data of a run as a token store: one source, or several that are mixed."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.schema.mixture import explain_source
from gptexp.config.source import source_fingerprint
from gptexp.data import tokenizers
from gptexp.data.account import DataAccount
from gptexp.data.build_store import build_store, split_corpus, training_texts
from gptexp.data.corpora import Corpus, open_corpus
from gptexp.data.held_out_texts import find_held_out_elsewhere
from gptexp.data.mixed_store import MixedStore
from gptexp.data.mixture_order import MixtureOrder, Phase
from gptexp.data.open_tokens import open_tokens
from gptexp.data.progress import track_progress
from gptexp.data.token_store import ExampleEncoder, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import atomic_folder, short_hash

TRAIN_CHARACTERS = 10_000_000  # of a tokenizer whose settings name no number


def open_source(
    data: schema.DataConfig,
    encoder: ExampleEncoder,
    medium: str,
    tokenizer_config: schema.TokenizerConfig,
    cache: Path,
    tokenizer: Tokenizer | None = None,
    elsewhere: NDArray[np.uint64] | None = None,
) -> TokenStore:
    """Read, split, tokenise and cache one source, or open tokens that are stored.

    Args:
        medium: "image" or "audio", where examples must have that as well.
        tokenizer: a trained tokenizer, which replaces `tokenizer_config`.
        elsewhere: as for `build_store`.

    Raises:
        UserError: the source cannot be read or does not fit the task.
    """
    if isinstance(data, schema.TokensConfig):
        return open_tokens(data, encoder, tokenizer_config, cache, tokenizer)
    corpus = open_corpus(data, encoder.fields, cache, medium)
    return build_store(corpus, encoder, data, tokenizer_config, cache, tokenizer, elsewhere)


def open_mixture(
    config: schema.Config,
    mixture: schema.MixtureConfig,
    encoder: ExampleEncoder,
    cache: Path,
    tokenizer: Tokenizer | None = None,
) -> MixedStore:
    """Open each source with one tokenizer: that of the initial weights, of stored tokens, or one for all sources.

    Raises:
        UserError: a source cannot be read, does not fit the task, or has another tokenizer.
    """
    sources = mixture.source_configs()
    order = MixtureOrder([Phase(*phase) for phase in mixture.phases(config)])
    shares = dict(zip(sources, order.count_before(config.num_sequences).tolist(), strict=True))
    for name, *counts in zip(sources, *(cycle for _, cycle in order.describe()), strict=True):
        if not shares[name]:
            # A longer run does not help a weight that is 0, also once it is rounded.
            longer = " or trainer.max_steps" if any(counts) else ", which counts to 1/10,000 of all"
            raise UserError(
                f"data.weights.{name}={mixture.weights[name]}: no sequence of the run comes from this source. Leave it "
                f"out, or raise its weight{longer}"
            )
    for start in order.starts:
        if start >= config.num_sequences:
            print(
                f"data.schedule: the weights from sequence {start:,} on never hold: the run has "
                f"{config.num_sequences:,} sequences",
                file=sys.stderr,
            )
    stores: dict[str, TokenStore] = {}
    # Stored tokens come first: they have a tokenizer already.
    stored = [name for name, source in sources.items() if isinstance(source, schema.TokensConfig)]
    texts = [name for name in sources if name not in stored]
    is_initial = tokenizer is not None
    for name in stored:
        with explain_source(name):
            given = tokenizer if is_initial or not _is_store(sources[name]) else None
            stores[name] = open_source(sources[name], encoder, "", config.tokenizer, cache, given)
        tokenizer = tokenizer or stores[name].tokenizer
        if stores[name].tokenizer.fingerprint() != tokenizer.fingerprint():
            other = "init" if is_initial else f"data.sources.{stored[0]}"
            raise UserError(
                f"data.sources.{name}.path={vars(sources[name])['path']}: has another tokenizer than {other}, "
                f"and all sources of a mixture need one. Write the tokens of one of them again by "
                f"gptexp tokenize, with the tokenizer of the other"
            )
    if (
        stored
        and not is_initial
        and all(_is_store(sources[name]) for name in stored)
        and config.tokenizer != schema.BpeConfig()
    ):
        print(
            f"data.sources.{stored[0]} brings its own tokenizer: tokenizer={config.tokenizer.kind} has no effect",
            file=sys.stderr,
        )
    corpora = {}
    for name in texts:
        with explain_source(name):
            corpora[name] = open_corpus(sources[name], encoder.fields, cache)
    elsewhere = find_held_out_elsewhere(sources, corpora, cache)
    if texts and tokenizer is None:
        tokenizer = _build_tokenizer(sources, corpora, shares, elsewhere, config.tokenizer, cache)
    for name in texts:
        with explain_source(name):
            stores[name] = open_source(
                sources[name], encoder, "", config.tokenizer, cache, tokenizer, elsewhere.get(name)
            )
    blocks = {name: source.order_block for name, source in sources.items()}
    ordered = {name: stores[name] for name in sources}
    return MixedStore(ordered, order, mixture.weights, blocks)


def _is_store(source: schema.DataConfig) -> bool:
    """Return whether a source is a store, which has a tokenizer; files of other programs have none."""
    return isinstance(source, schema.TokensConfig) and (source.is_store or source.is_remote)


def _build_tokenizer(
    sources: dict[str, schema.DataConfig],
    corpora: dict[str, Corpus],
    shares: dict[str, int],
    elsewhere: dict[str, NDArray[np.uint64]],
    config: schema.TokenizerConfig,
    cache: Path,
) -> Tokenizer:
    """Build the tokenizer of a mixture of texts; one that needs training is trained once, and kept in the cache.

    Args:
        shares: of the sources in the characters that it is trained on, in proportion to each other.
    """
    if isinstance(config, schema.HFTokenizerConfig):
        return tokenizers.build(config, [])
    key = {
        "corpora": {name: corpus.describe() for name, corpus in corpora.items()},
        "sources": {name: asdict(source) for name, source in sources.items()},
        "shares": shares,
        "tokenizer": asdict(config),
        "elsewhere": {
            name: short_hash(hashes.tobytes().hex()) for name, hashes in elsewhere.items()
        },
        "code": source_fingerprint("data", "tasks"),
    }
    folder = cache / "tokenizers" / short_hash(json.dumps(key, sort_keys=True, default=str))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            texts = _mix_texts(sources, corpora, shares, elsewhere, config)
            trained = tokenizers.build(
                config, track_progress(texts, "training the tokenizer", "texts")
            )
            with atomic_folder(folder) as temporary:
                trained.save(temporary / "tokenizer.json")
    return Tokenizer.load(folder / "tokenizer.json")


def _mix_texts(
    sources: dict[str, schema.DataConfig],
    corpora: dict[str, Corpus],
    shares: dict[str, int],
    elsewhere: dict[str, NDArray[np.uint64]],
    config: schema.TokenizerConfig,
) -> Iterator[str]:
    """Yield the first training texts of each source, up to its share of the characters."""
    characters = getattr(config, "train_characters", TRAIN_CHARACTERS)

    def take(name: str) -> Iterable[str]:
        data, corpus = sources[name], corpora[name]
        assigned = split_corpus(corpus, data, DataAccount())
        texts = training_texts(corpus, data.limit, assigned, elsewhere.get(name))
        return tokenizers.take_characters(texts, characters * shares[name] // sum(shares.values()))

    return chain.from_iterable(map(take, sources))
