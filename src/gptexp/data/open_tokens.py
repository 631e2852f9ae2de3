"""Open the tokens that data=tokens names: a store that a run or `gptexp tokenize` wrote, or files of other programs."""

from pathlib import Path

from gptexp.config import schema
from gptexp.data.foreign.store import open_foreign_store
from gptexp.data.remote_store import open_remote_store
from gptexp.data.token_store import ExampleEncoder, TokenStore, open_store
from gptexp.data.tokenizers import Tokenizer


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
    if data.is_remote:
        return open_remote_store(data.path, encoder, cache, tokenizer, data.cache_gb)
    if data.is_store:
        return open_store(Path(data.path), encoder, cache, tokenizer)
    return open_foreign_store(data, encoder, tokenizer_config, cache, tokenizer)
