"""Compare how gptexp and transformers write conversations for an exported model."""

from typing import Any

from gptexp.data.chat_format import RefusedConversationError, find_chat_format
from gptexp.data.conversation import Conversation, Message
from gptexp.data.tokenizers import Tokenizer

QUESTION = Message("user", "Where does the river begin?")
ANSWER = Message("assistant", "In the mountains.")
TOOL = {
    "type": "function",
    "function": {
        "name": "measure",
        "description": "Return the length of a river in km.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "measure", "arguments": {"name": "Rhine"}}}
# A template need not accept all of these: some know no system prompt, others no tools.
CONVERSATIONS = (
    Conversation((QUESTION,)),
    Conversation((Message("system", "Answer in one sentence."), QUESTION)),
    Conversation((QUESTION, ANSWER, Message("user", " Are you\n\nsure? "))),
    Conversation((QUESTION,), (TOOL,)),
    Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "How long is the Rhine?"),
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", "1233", name="measure"),
        ),
        (TOOL,),
    ),
)


def render_prompts(tokenizer: Tokenizer) -> list[tuple[Conversation, list[int]]]:
    """Return the conversations that the tokenizer's chat template accepts, each with its tokens; [] without one."""
    if not tokenizer.chat_template:
        return []
    chat_format = find_chat_format(tokenizer)
    prompts = []
    for conversation in CONVERSATIONS:
        try:
            tokens = chat_format.render(conversation, reply=True).tokens
        except RefusedConversationError:
            continue
        prompts.append((conversation, tokens))
    return prompts


def has_same_chat(tokenizer: Tokenizer, their_tokenizer: Any) -> bool | None:
    """Return whether transformers writes the same tokens for each conversation; None: there is none to compare."""
    prompts = render_prompts(tokenizer)
    if not prompts:
        return None
    return all(
        tokens
        == their_tokenizer.apply_chat_template(
            conversation.to_dicts(),
            tools=list(conversation.tools) or None,
            add_generation_prompt=True,
            return_dict=False,
        )
        for conversation, tokens in prompts
    )
