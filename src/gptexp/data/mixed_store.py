"""The stores of a mixture, which a run reads as one."""

import json
from functools import cached_property
from typing import Any

from gptexp.data.account import DataAccount
from gptexp.data.mixture_order import MixtureOrder
from gptexp.data.token_ranges import TokenRanges
from gptexp.data.token_store import TokenStore
from gptexp.files import short_hash


class MixedStore(TokenStore):
    """Several stores with one tokenizer. It has no folder and no tokens of its own: readers take them from its sources.

    Args:
        sources: by name.
        order: which of the sources each sequence of the run comes from.
        blocks: of each source, the size of the blocks of its order; None: it has none.
    """

    def __init__(
        self,
        sources: dict[str, TokenStore],
        order: MixtureOrder,
        weights: dict[str, float],
        blocks: dict[str, int | None],
    ) -> None:
        first = next(iter(sources.values()))
        self.sources, self.order, self.weights, self.blocks = sources, order, weights, blocks
        self.folder, self.tokenizer = first.folder.parent, first.tokenizer
        self.is_new = any(store.is_new for store in sources.values())

    @cached_property
    def meta(self) -> dict[str, Any]:  # type: ignore[override]
        """The entries of meta.json that describe the sources together."""
        metas = {name: store.meta for name, store in self.sources.items()}
        first = next(iter(metas.values()))
        splits: dict[str, dict[str, int]] = {}
        for meta in metas.values():
            for split, counts in meta["splits"].items():
                total = splits.setdefault(split, {})
                for key, count in counts.items():
                    total[key] = total.get(key, 0) + count
        phases = self.order.describe()
        keys = {
            part: _digest([phases, {name: meta[part] for name, meta in metas.items()}])
            for part in ("fingerprint", "content")
        }
        return {
            **{name: first[name] for name in ("task", "dtype", "vocab_size")},
            **keys,
            "corpus": _describe({name: meta["corpus"] for name, meta in metas.items()}, phases),
            "feature_size": 0,
            "splits": splits,
            "account": self.account.as_json(),
            "files": _hash_files(
                {name: meta["files"] for name, meta in metas.items()}, self.weights
            ),
        }

    @property
    def account(self) -> DataAccount:
        """Return the accounts of the sources as one, whose remarks name the source."""
        merged = DataAccount()
        for name, store in self.sources.items():
            account = store.account
            merged.merge(account)
            merged.duplicates += account.duplicates
            merged.duplicate_groups += account.duplicate_groups
            merged.remarks += [f"{name}: {remark}" for remark in account.remarks]
        return merged

    def sources_with(self, split: str) -> dict[str, TokenStore]:
        """Return the sources that have a split, by name."""
        return {name: store for name, store in self.sources.items() if store.has(split)}

    def tokens(self, split: str) -> TokenRanges:
        raise NotImplementedError("the tokens of a mixture are those of its sources")


def _describe(corpora: dict[str, dict[str, Any]], phases: list[Any]) -> dict[str, Any]:
    """Return the description of a mixture: its phases, and what the sources consist of in one list of each kind."""
    kinds = {name: corpus.get("source") for name, corpus in corpora.items()}
    description: dict[str, Any] = {"source": "mixture", "sources": kinds, "phases": phases}
    for name, corpus in corpora.items():
        description.setdefault("packages", {}).update(corpus.get("packages", {}))
        for kind in ("files", "parts"):
            listed = corpus.get(kind)
            listed = listed if isinstance(listed, dict) else {}
            parts = {f"{name}: {key}": value for key, value in listed.items()}
            description.setdefault(kind, {}).update(parts)
    return description


def _hash_files(files: dict[str, dict[str, str]], weights: dict[str, float]) -> dict[str, str]:
    """Return a hash of each file of all sources together, test.jsonl, and of each of a source, test/NAME.jsonl.

    Held-out losses are means by weight, so the hashes of all sources together cover the weights, too.
    """
    names = sorted(set().union(*files.values()))
    hashes = {
        file: _digest([weights, {name: own.get(file) for name, own in files.items()}])
        for file in names
    }
    for name, own in files.items():
        for file, digest in own.items():
            split, _, kind = file.partition(".")
            hashes[f"{split}/{name}.{kind}"] = digest
    return hashes


def _digest(values: Any) -> str:
    return short_hash(json.dumps(values, sort_keys=True))
