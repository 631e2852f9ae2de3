"""Compare the learned tokens of conversations with transformers' masks, over the chat templates that TRL brings.

    python benchmarks/chat_masks.py                  12 s of one core, 200 conversations each
    python benchmarks/chat_masks.py qwen3 llama3 --conversations 50

TRL has templates as published (qwen3.jinja), and a copy of each with {% generation %} tags (qwen3_training.jinja).
gptexp gets the published one, transformers the copy. Conversations that the copy writes with other tokens are not
compared. A mask counts as equal also where the copy learns white space or eos behind the token that ends an answer;
"with header" are those where it also learns the header, which gptexp leaves to the prompt.
"""

import argparse
import random
import re
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gptexp.data.chat_format import RefusedConversationError, TemplateChat
from gptexp.data.conversation import Conversation
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from chat_templates import Family, make_conversation, make_tokenizer

# Those that look like special tokens. Some tokenizers name more in their files.
SPECIAL_TEXT = re.compile(
    r"<[|｜][^<>{}'\"\s]+[|｜]>|</?s>|<(?:start|end)_of_turn>|\[/?[A-Z_]{3,}\]|\[gMASK\]|<bos>|<eos>"
)
COLUMNS = ("equal", "with header", "unequal", "other tokens", "refused")
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "</s>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="templates; default: all")
    parser.add_argument("--conversations", type=int, default=200)
    args = parser.parse_args()
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        parser.error("TRL is not installed: pip install trl")
    folder = Path(spec.origin).parent / "chat_templates"
    names = args.names or [
        file.name.removesuffix("_training.jinja")
        for file in sorted(folder.glob("*_training.jinja"))
    ]
    print(f"{'template':24}{''.join(f'{key:>{len(key) + 2}}' for key in COLUMNS)}  why refused")
    for name in names:
        published, tagged = (
            (folder / f"{name}{suffix}.jinja").read_text("utf8") for suffix in ("", "_training")
        )
        counts, reason = compare(published, tagged, args.conversations)
        columns = "".join(f"{counts[key]:>{len(key) + 2}}" for key in COLUMNS)
        print(f"{name:24}{columns}  {reason:.120}", flush=True)


def compare(published: str, tagged: str, conversations: int) -> tuple[Counter[str], str]:
    """Return how many conversations have equal masks, and the reason of the last refusal."""
    special = sorted(set(SPECIAL_TEXT.findall(published)))
    end = next((text for text in ENDS if text in special), "<|endoftext|>")
    family = Family(
        published, ("<|bos|>", end, *(text for text in special if text != end)), max_calls=1
    )
    tokenizer = make_tokenizer(family)
    calls = tokenizer.backend.token_to_id(
        "<|call|>"
    )  # ends an answer that calls a tool, of gpt-oss
    if calls is not None:
        tokenizer = tokenizer.with_chat_template(published, {calls})
    rng = random.Random(0)
    counts: Counter[str] = Counter()
    reason = ""
    with TemporaryDirectory() as folder:
        reference = load_by_transformers(tokenizer, Path(folder))
        try:
            chat_format = TemplateChat(published, tokenizer, strftime=time.strftime)
        except UserError as error:
            return Counter(refused=conversations), str(error)
        for _ in range(conversations):
            conversation = make_conversation(rng, family)
            try:
                chat = chat_format.render(conversation)
            except (RefusedConversationError, UserError) as error:
                counts["refused"] += 1
                reason = str(error)
                continue
            tokens, mask = render_by_transformers(reference, conversation, tagged)
            if tokens != chat.tokens:
                counts["other tokens"] += 1
            else:
                counts[judge(tokens, chat.learned, mask, tokenizer)] += 1
    return counts, reason


def load_by_transformers(tokenizer: Tokenizer, folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer.save(folder / "tokenizer.json")
    return AutoTokenizer.from_pretrained(folder)


def render_by_transformers(
    tokenizer: Any, conversation: Conversation, template: str
) -> tuple[list[int], list[bool]]:
    encoding = tokenizer.apply_chat_template(
        conversation.to_dicts(),
        tools=list(conversation.tools) or None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    return encoding["input_ids"], list(map(bool, encoding["assistant_masks"]))


def judge(tokens: list[int], ours: list[bool], theirs: list[bool], tokenizer: Tokenizer) -> str:
    """Return the column of a conversation whose tokens are the same on both sides."""
    only_theirs = [a and not b for a, b in zip(theirs, ours, strict=True)]
    if any(a and not b for a, b in zip(ours, theirs, strict=True)):
        return "unequal"
    has_header = False
    for position, is_extra in enumerate(only_theirs):
        is_end = (
            tokens[position] == tokenizer.eos or not tokenizer.decode([tokens[position]]).strip()
        )
        if not is_extra or (is_end and ours[position - 1]):
            continue
        behind = next((p for p in range(position, len(tokens)) if not only_theirs[p]), len(tokens))
        if behind < len(tokens) and ours[behind]:
            has_header = True
        elif not is_end:
            return "unequal"
    return "with header" if has_header else "equal"


if __name__ == "__main__":
    main()
