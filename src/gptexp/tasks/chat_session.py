"""Chat with a model: of a chat run, or any other whose tokenizer has a chat template."""

from collections.abc import Iterator
from dataclasses import replace

from gptexp.data.conversation import SYSTEM_ROLES, Conversation, Message
from gptexp.data.read_conversation import with_system
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import stream_text
from gptexp.model import TransformerConfig
from gptexp.sampling import Sampling
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.chat_turns import ChatTurns
from gptexp.tasks.task import Task
from gptexp.tasks.unread_input import describe_unread_input

MAX_NEW_TOKENS = 256  # of an answer of a model that was trained for another task


def chat_answerer(
    task: Task, tokenizer: Tokenizer, config: TransformerConfig, max_new_tokens: int | None = None
) -> GenerateText:
    """Return the answerer of conversations of a model that was trained for `task`.

    Args:
        max_new_tokens: longest answer, which a history leaves room for; None: that of the task.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"this model was trained for {task.config.kind}, and has no chat template. Train it to chat: "
            f"python -m gptexp.run task=chat init=RUN"
        )
    sampling, default = Sampling(), MAX_NEW_TOKENS
    if isinstance(task.layout, ChatTurns):
        assert isinstance(task.answerer, GenerateText)
        sampling, default = task.answerer.sampling, task.layout.max_new_tokens
    length = max_new_tokens or min(default, config.context // 2)
    return GenerateText(ChatTurns(config.context, length, "none"), length, sampling)


class ChatSession:
    """A conversation with a model that goes on message by message.

    Attributes:
        conversation: all messages so far.
        has_cuts: whether the last answer was given without the oldest messages, which no longer fit into the context.
        unread: what the model did not read of the last message and those before it; "": it read all.
    """

    def __init__(
        self, generator: Generator, tokenizer: Tokenizer, answerer: GenerateText, system: str = ""
    ) -> None:
        self.generator, self.tokenizer, self.answerer = generator, tokenizer, answerer
        self.conversation = with_system(Conversation(()), system)
        self.has_cuts, self.unread = False, ""

    def reset(self, system: str | None = None) -> None:
        """Forget all messages, but the system prompt where `system` does not replace it."""
        messages = [m for m in self.conversation.messages if m.role in SYSTEM_ROLES]
        self.conversation = with_system(Conversation(tuple(messages)), system)
        self.has_cuts = False

    def ask(self, text: str, sampling: Sampling, stop: list[str]) -> Iterator[str]:
        """Yield the answer to the user's next message piece by piece; both become part of the conversation.

        Raises:
            ValueError: see `Generator.generate`.
        """
        question = Message("user", text)
        self.conversation = replace(
            self.conversation, messages=(*self.conversation.messages, question)
        )
        layout = self.answerer.layout
        turn = layout.parse_prompt(self.conversation, self.tokenizer)
        config = self.generator.model.config
        self.unread = describe_unread_input(layout, self.answerer, turn, self.tokenizer, config)
        self.has_cuts = bool(layout.prompt_cuts(turn, self.tokenizer))
        prompt = layout.prompt(turn, self.tokenizer)
        pieces: list[str] = []
        try:
            for piece in self._answer(prompt, sampling, stop):
                pieces.append(piece)
                yield piece
        finally:
            answer = Message("assistant", "".join(pieces))
            self.conversation = replace(
                self.conversation, messages=(*self.conversation.messages, answer)
            )

    def _answer(self, prompt: Prompt, sampling: Sampling, stop: list[str]) -> Iterator[str]:
        length = self.answerer.max_new_tokens
        if sampling.num_beams > 1 or sampling.mbr_samples > 1:  # known only at the end
            yield from self.answerer.generate(
                self.generator, self.tokenizer, prompt, 1, length, sampling, stop
            )
            return
        steps = self.generator.stream([prompt], length, sampling)
        tokens = (token for [token] in steps if token is not None)
        yield from stream_text(tokens, self.answerer.decoder(prompt, self.tokenizer), stop)
