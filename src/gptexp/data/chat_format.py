"""Turn conversations into tokens, and say which of them the assistant generates.

TaggedChat is our own format: one special token a role. TemplateChat follows the chat template of a published tokenizer.
Both write the special tokens of the format as tokens, and the same characters in a message as text. Only the content of
an assistant's message and the token that ends it are learned; the header before it is part of the prompt.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import compress, takewhile
from pathlib import Path
from typing import Any

import tokenizers

from gptexp.data.conversation import Conversation, JsonObject, Message
from gptexp.data.jinja_template import JinjaTemplate, Span, dump_json
from gptexp.data.template_text import TemplateText
from gptexp.data.tokenizers import NumericTokenizer, Tokenizer
from gptexp.errors import UserError
from gptexp.files import short_hash

END = "<|end|>"
ROLE_TAGS = {
    "system": "<|system|>",
    "developer": "<|system|>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
    "tool": "<|tool|>",
}
CHAT_TAGS = (*dict.fromkeys(ROLE_TAGS.values()), END)
TOOLS_HEADER = "Functions that can be called, one JSON object a line:\n"
TOOLS_FOOTER = '\nA call: <tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
# Parts of conversations that a template may not write.
CALLS, RESULTS, TOOLS, THINKING = "tool calls", "results of tools", "tools", "thinking"
NO_END = (
    "the chat template ends no answer with a special token, such as eos, so a model that learns from it would never "
    "stop. Add one to chat_template.jinja behind the content of assistant messages, inside of {% generation %} tags if "
    "it has them"
)
# Templates that write today's date write this one into training data, so that it is the same on every day.
TRAINING_DATE = time.struct_time((2026, 1, 1, 0, 0, 0, 3, 1, 0))


@cache
def tagged_template() -> str:
    """Return the template of TaggedChat in Jinja."""
    return (Path(__file__).parent / "tagged_chat.jinja").read_text("utf8")


class RefusedConversationError(UserError):
    """A chat template cannot render a conversation: it knows other roles, or wants another order of them."""


@dataclass(frozen=True)
class RenderedChat:
    tokens: list[int]
    learned: list[bool]  # one flag a token: the assistant generates it


class ChatFormat(ABC):
    """How a conversation becomes tokens.

    Attributes:
        stop_ids: the tokens that end an assistant's message.
    """

    stop_ids: frozenset[int]

    @abstractmethod
    def jinja(self) -> str:
        """Return the format as a template for transformers and vLLM."""

    @abstractmethod
    def render(self, conversation: Conversation, *, reply: bool = False) -> RenderedChat:
        """Return the tokens of a conversation.

        Args:
            reply: end with the header of the assistant's next message. It makes a prompt, of which nothing is learned.

        Raises:
            RefusedConversationError: the format has no place for a message.
        """

    def unwritten_parts(self, conversation: Conversation) -> list[str]:
        """Return the names of the parts of a conversation that the format does not write: "tools", "thinking"."""
        return []

    def fingerprint(self) -> dict[str, Any]:
        """Return all that the tokens of a conversation depend on besides the tokenizer, as JSON values."""
        return {"chat format": type(self).__name__, "template": short_hash(self.jinja())}


class TaggedChat(ChatFormat):
    """<|user|>question<|end|><|assistant|>answer<|end|>: atomic tags, so the learned spans are known by construction.

    Args:
        tokenizer: one that `add_chat_tags` has returned.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [tag for tag in CHAT_TAGS if tokenizer.backend.token_to_id(tag) is None]
        if missing:
            raise UserError(f"the tokenizer lacks the tags of a chat: {' '.join(missing)}")
        self._text = TemplateText(tokenizer)
        self._start = tokenizer.bos_token or ""
        end = tokenizer.backend.token_to_id(END)
        assert end is not None
        self.stop_ids = frozenset({end})

    def jinja(self) -> str:
        return tagged_template()

    def render(self, conversation: Conversation, *, reply: bool = False) -> RenderedChat:
        text, spans = self._start, []
        if conversation.tools:
            tools = self._text.protect(_describe_tools(conversation.tools))
            text += f"{ROLE_TAGS['system']}{tools}{END}"
        for message in conversation.messages:
            text += ROLE_TAGS[message.role]
            start = len(text)
            text += self._text.protect(_describe_message(message)) + END
            if message.is_learned and not reply:
                spans.append((start, len(text)))
        if reply:
            text += ROLE_TAGS["assistant"]
        tokens, offsets = self._text.encode(text)
        return RenderedChat(tokens, overlaps(offsets, spans))


class TemplateChat(ChatFormat):
    """The Jinja template of a tokenizer.

    The assistant generates the text inside of {% generation %} tags. Without them, the messages before each answer are
    rendered as a prompt, too: the conversation must begin with the same tokens, and the answer follows.

    Args:
        strftime: formats the date of templates that write one; None: a fixed date in training data, else today.

    Raises:
        UserError: the template is not valid Jinja.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, strftime: Callable[[str], str] | None = None
    ) -> None:
        self._source, self._tokenizer, self._strftime = source, tokenizer, strftime
        self._template, self._text = JinjaTemplate(source), TemplateText(tokenizer)
        added = tokenizer.backend.get_added_tokens_decoder()
        self._special_ids = {token for token, entry in added.items() if entry.special}
        self.stop_ids = self._find_stop_ids()

    def jinja(self) -> str:
        return self._source

    def render(self, conversation: Conversation, *, reply: bool = False) -> RenderedChat:
        strftime = self._strftime or (time.strftime if reply else _format_training_date)
        messages = self._text.protect(conversation.to_dicts())
        tools = self._text.protect(conversation.tools) or None
        write = partial(self._write, tools=tools, strftime=strftime)
        text, spans = write(messages, reply=reply)
        tokens, offsets = self._text.encode(text)
        if reply:
            return RenderedChat(tokens, [False] * len(tokens))
        if CALLS in self.unwritten_parts(conversation):
            raise RefusedConversationError(f"the chat template writes no {CALLS}")
        if self._template.has_generation_tags:
            spans = _keep_learned(spans, conversation)
            learned = overlaps(offsets, spans)
            stop_ids = self.stop_ids | self._tokenizer.eos_ids
            if spans and not any(map(stop_ids.__contains__, compress(tokens, learned))):
                raise UserError(NO_END)
            return RenderedChat(tokens, learned)
        learned = [False] * len(tokens)
        for number, message in enumerate(conversation.messages):
            if message.is_learned:
                prompt, _ = self._text.encode(write(messages[:number], reply=True)[0])
                _check_begins(tokens, prompt, number, self._tokenizer)
                until, _ = write(messages[: number + 1], reply=False)
                end = self._end_of_turn(text, until, tokens, offsets, len(prompt))
                learned[len(prompt) : end] = [True] * (end - len(prompt))
        return RenderedChat(tokens, learned)

    def _write(
        self,
        messages: list[JsonObject],
        *,
        reply: bool,
        tools: list[JsonObject] | None,
        strftime: Callable[[str], str],
    ) -> tuple[str, list[Span]]:
        """Render messages to text, and return the spans of the template's generation tags, too."""
        values = {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": reply,
            **self._tokenizer.named_tokens,
        }
        try:
            return self._template.render(values, strftime)
        except Exception as error:  # the template computes with what it was given
            raise RefusedConversationError(
                f"the chat template refuses the conversation ({error})"
            ) from None

    def _end_of_turn(
        self, text: str, until: str, tokens: list[int], offsets: list[Span], start: int
    ) -> int:
        """Return the position after the token that ends the turn whose answer begins at the token `start`.

        It is the last stop token of the turn. Some templates write an answer otherwise when messages follow it, without
        its thinking for instance: then it is the first stop token behind the prompt.

        Args:
            until: the conversation up to the end of this turn; `text` has what follows it.
        """
        stop_ids = self.stop_ids | self._tokenizer.eos_ids
        ends = [p for p in range(start, len(tokens)) if tokens[p] in stop_ids]
        is_same = text.startswith(until)
        if is_same:
            ends = [position for position in ends if offsets[position][0] < len(until)]
        if not ends:
            raise UserError(NO_END)
        return ends[-1 if is_same else 0] + 1

    def unwritten_parts(self, conversation: Conversation) -> list[str]:
        parts = list_parts(conversation)
        return [part for part in parts if part in self._unwritten]

    @cached_property
    def _unwritten(self) -> frozenset[str]:
        """The parts of conversations that the template does not write."""
        name, question = "qwertz", Message("user", "Question?")
        answer, call = Message("assistant", "Answer."), {"type": "function", "id": "123456789"}
        calls = [
            Message(
                "assistant", "", tool_calls=({**call, "function": {"name": f, "arguments": {}}},)
            )
            for f in (name, "f")
        ]
        result = Message("tool", name, tool_call_id="123456789", name="f")
        tool = {"name": name, "description": name, "parameters": {"type": "object"}}
        tools = ({"type": "function", "function": tool},)
        thinking = [replace(message, thinking=name) for message in (answer, calls[1])]
        samples = {
            CALLS: [Conversation((question, calls[0]))],
            RESULTS: [Conversation((question, calls[1], result, answer))],
            TOOLS: [Conversation((question, answer), tools), Conversation((question,), tools)],
            THINKING: [Conversation((question, message)) for message in thinking],
        }
        return frozenset(
            part
            for part, chats in samples.items()
            if not any(self._writes(name, chat) for chat in chats)
        )

    def _writes(self, text: str, conversation: Conversation) -> bool:
        """Return whether a text of a conversation is in what the template writes, or the template refuses it."""
        messages, tools = conversation.to_dicts(), list(conversation.tools) or None
        try:
            written, _ = self._write(messages, reply=False, tools=tools, strftime=time.strftime)
        except RefusedConversationError:
            return True
        return text in written

    def _find_stop_ids(self) -> frozenset[int]:
        """Return the special tokens that follow an answer at the end of a conversation, and inside of one."""
        question, answer = Message("user", "Question?"), Message("assistant", "Qwertz")
        stops: set[int] = set()
        for messages in ((question, answer), (question, answer, question)):
            rows = self._text.protect(Conversation(messages).to_dicts())
            try:
                text, _ = self._write(rows, reply=False, tools=None, strftime=time.strftime)
            except RefusedConversationError:
                return self._tokenizer.eos_ids
            if answer.content not in text:
                raise UserError(
                    "the chat template does not write the content of messages that are texts; templates of models that "
                    "read pictures may want a list of parts. Change chat_template.jinja to write message.content, or "
                    "remove it to use the tags of gptexp"
                )
            behind = text.index(answer.content) + len(answer.content)
            following = (
                token
                for token, (start, _) in zip(*self._text.encode(text), strict=True)
                if start >= behind and token in self._special_ids
            )
            stop = next(following, None)
            if stop is None:
                break
            stops.add(stop)
        return frozenset(stops)


def add_chat_tags(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer with a chat format, which stops at the end of an assistant's message.

    It is the given one with its own chat template, or else with our template and the tags that it lacks.

    Raises:
        UserError: there is no tokenizer to add them to, or its chat template is not valid Jinja.
    """
    if isinstance(tokenizer, NumericTokenizer):
        raise UserError(
            "the model has no tokenizer, and a conversation cannot be encoded without one"
        )
    if tokenizer.chat_template not in ("", tagged_template()):
        chat_format = TemplateChat(tokenizer.chat_template, tokenizer)
        return tokenizer.with_chat_template(tokenizer.chat_template, chat_format.stop_ids)
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens([tag for tag in CHAT_TAGS if backend.token_to_id(tag) is None])
    end = backend.token_to_id(END)
    assert end is not None
    return tokenizer.with_chat_template(tagged_template(), {end}, backend)


def find_chat_format(source: Path | Tokenizer) -> ChatFormat:
    """Return the chat format of a tokenizer, or of the one in a folder: its own template, or ours.

    Raises:
        UserError: it has no chat format, or its chat template is not valid Jinja.
    """
    tokenizer = (
        source if isinstance(source, Tokenizer) else Tokenizer.load(source / "tokenizer.json")
    )
    if tokenizer.chat_template in ("", tagged_template()):
        return TaggedChat(tokenizer)
    return TemplateChat(tokenizer.chat_template, tokenizer)


def _format_training_date(pattern: str) -> str:
    return time.strftime(pattern, TRAINING_DATE)


def overlaps(offsets: list[Span], spans: Iterable[Span]) -> list[bool]:
    """Return for each token whether it holds a character of a span. Offsets and spans are in ascending order."""
    flags = [False] * len(offsets)
    position = 0
    for start, end in spans:
        while position < len(offsets) and offsets[position][1] <= start:
            position += 1
        first = position
        while position < len(offsets) and offsets[position][0] < end:
            position += 1
        flags[first:position] = [True] * (position - first)
    return flags


def list_parts(conversation: Conversation) -> list[str]:
    """Return the names of the parts besides contents that a conversation has."""
    messages = conversation.messages
    flags = {
        CALLS: any(message.tool_calls for message in messages),
        RESULTS: any(message.role == "tool" for message in messages),
        TOOLS: bool(conversation.tools),
        THINKING: any(message.thinking for message in messages),
    }
    return [part for part, is_present in flags.items() if is_present]


def _keep_learned(spans: list[Span], conversation: Conversation) -> list[Span]:
    """Return the spans of generation tags without those of answers of weight 0.

    Raises:
        RefusedConversationError: a span cannot be told from the others.
    """
    answers = [message for message in conversation.messages if message.role == "assistant"]
    if all(message.is_learned for message in answers):
        return spans
    if len(spans) != len(answers):
        raise RefusedConversationError(
            "the {% generation %} tags of the chat template do not surround each answer once, so that one of weight 0 "
            "cannot be told"
        )
    return [span for span, answer in zip(spans, answers, strict=True) if answer.is_learned]


def _describe_tools(tools: Iterable[JsonObject]) -> str:
    lines = "\n".join(dump_json(tool) for tool in tools)
    return f"{TOOLS_HEADER}{lines}{TOOLS_FOOTER}"


def _describe_message(message: Message) -> str:
    """Return all that a message holds as one text: thinking and tool calls in the tags that vLLM's parsers read."""
    parts = [f"<think>\n{message.thinking}\n</think>\n"] if message.thinking else []
    parts += [message.content] if message.content else []
    for call in message.tool_calls:
        function = call["function"]
        text = dump_json({"name": function["name"], "arguments": function["arguments"]})
        parts.append(f"<tool_call>\n{text}\n</tool_call>")
    return "\n".join(parts)


def _check_begins(tokens: list[int], prompt: list[int], number: int, tokenizer: Tokenizer) -> None:
    """Check that a conversation begins with the prompt of one of its answers.

    Raises:
        UserError: it does not, so the model would be asked for its answer after other tokens than those it has learned.
    """
    if tokens[: len(prompt)] == prompt:
        return
    pairs = zip(prompt, tokens, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    in_prompt, in_chat = (
        repr(tokenizer.backend.id_to_token(row[same])) if same < len(row) else "missing"
        for row in (prompt, tokens)
    )
    raise UserError(
        f"the chat template writes other tokens before an answer than in the conversation with it: token {same + 1} of "
        f"the prompt of messages[{number}] is {in_prompt}, and in the conversation {in_chat}. Put "
        f"{{% generation %}} and {{% endgeneration %}} around the answers in chat_template.jinja, or remove the "
        f"template to use the tags of gptexp"
    )
