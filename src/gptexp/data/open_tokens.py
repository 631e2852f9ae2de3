"""Open the tokens that data=tokens names: a store that a run or `gptexp tokenize` wrote, or files of other programs."""

from pathlib import Path

from gptexp.config import schema
from gptexp.data.foreign.store import open_foreign_store
from gptexp.data.remote_store import open_remote_store
from gptexp.data.token_store import ExampleEncoder, TokenStore, open_store
from gptexp.data.tokenizers import Tokenizer, build
from gptexp.errors import UserError


def open_tokens(
    data: schema.TokensConfig,
    encoder: ExampleEncoder,
    tokenizer_config: schema.TokenizerConfig,
    cache: Path,
    tokenizer: Tokenizer | None = None,
) -> TokenStore:
    """Open stored tokens as the store of a run.

    Args:
        tokenizer_config: names the tokenizer that made files of other programs; a store has its own.
        tokenizer: that of the initial weights, which must be the store's, and which goes before `tokenizer_config`.

    Raises:
        RemoteDataError: a server does not give them.
        UserError: they are damaged, or do not fit the task or the tokenizer.
    """
    if not data.is_store:
        return open_foreign_store(data, encoder, tokenizer_config, cache, tokenizer)
    if data.is_remote:
        store = open_remote_store(data.path, encoder, cache, tokenizer, data.cache_gb)
    else:
        store = open_store(Path(data.path), encoder, cache, tokenizer)
    if tokenizer is None:
        _check_tokenizer(store, encoder, data, tokenizer_config)
    for name in ("val_fraction", "test_fraction"):
        if getattr(data, name) != getattr(schema.TokensConfig, name):
            store.meta["account"]["remarks"].append(
                f"data.{name}={getattr(data, name)} is not used: the store has its own splits"
            )
    return store


def _check_tokenizer(
    store: TokenStore,
    encoder: ExampleEncoder,
    data: schema.TokensConfig,
    config: schema.TokenizerConfig,
) -> None:
    """Compare the tokenizer of a store with one that the settings name; one to be trained is not trained.

    Raises:
        UserError: they differ.
    """
    if not isinstance(config, schema.ByteConfig | schema.HFTokenizerConfig):
        return
    named = encoder.extend_tokenizer(build(config, []))
    if named.fingerprint() != store.tokenizer.fingerprint():
        raise UserError(
            f"tokenizer={config.kind}: the store data.path={data.path} has another tokenizer, with which it is read. "
            f"Leave tokenizer=... out"
        )
