"""Describe the parts of an input that a model does not read: tokens that are cut, characters without a token."""

from typing import Any

from gptexp.data.account import describe_special_tokens
from gptexp.data.lost_text import LostText
from gptexp.data.token_store import Cut
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.decode_state import prompt_room
from gptexp.model import TransformerConfig
from gptexp.tasks.answerer import Answerer, GenerateText
from gptexp.tasks.layout import Layout


def describe_unread_input(
    layout: Layout,
    answerer: Answerer,
    input: Any,
    tokenizer: Tokenizer,
    config: TransformerConfig,
    max_new_tokens: int | None = None,
) -> str:
    """Return one line about the parts of an input that the model does not read; "": it reads all.

    Args:
        max_new_tokens: longest answer, which the prompt leaves room for; None: that of the answerer.
    """
    if not (texts := layout.texts(input)):
        return ""
    lost, special_tokens = LostText(), set()
    for text in texts:
        lost.add(text, tokenizer)
        special_tokens |= set(tokenizer.special_text.findall(text))
    cuts = list(layout.prompt_cuts(input, tokenizer))
    if isinstance(answerer, GenerateText):
        length = len(layout.prompt(input, tokenizer))
        max_new_tokens = max_new_tokens or answerer.max_new_tokens
        room = prompt_room(config, max_new_tokens)
        if 0 < room < length:
            setting = f"model.context={config.context} leaves {room} next to max_new_tokens={max_new_tokens}"
            cuts.append(Cut("beginning", length - room, setting))
    parts = [f"its {cut.part} is cut by {cut.tokens:,} tokens ({cut.setting})" for cut in cuts]
    parts += [*lost.sentences(), *map(describe_special_tokens, sorted(special_tokens))]
    return "; ".join(parts)
