"""A model of ours as lm-evaluation-harness asks for one: it scores continuations and texts, and answers prompts."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gptexp.data.chat_format import ChatFormat
from gptexp.data.conversation import Conversation, Message
from gptexp.data.progress import track_progress
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.generator import Generator
from gptexp.generation.gpu_decoder import count_fitting_rows, is_on_gpu
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import find_stop
from gptexp.harness.answer_options import read_options
from gptexp.harness.score_continuations import Continuation, score_continuations
from gptexp.model import Transformer
from gptexp.wording import format_count

ANSWERS_AT_ONCE = 32  # on a CPU


class HarnessModel(TemplateLM):
    """A decoder with its tokenizer.

    Args:
        chat_format: how the messages of a chat become a prompt; None: a task's prompts are plain text.

    Attributes:
        prompts: the tokens of each chat, by the text that stands for it in the requests.
        notes: how many requests are computed otherwise than the task says, by a description of the difference.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, chat_format: ChatFormat | None = None
    ) -> None:
        super().__init__()
        self.model, self.text_tokenizer, self.chat_format = model, tokenizer, chat_format
        stop_ids = chat_format.stop_ids if chat_format else frozenset[int]()
        self.generator = Generator(model, tokenizer.eos_ids | stop_ids)
        self.prompts: dict[str, list[int]] = {}
        self.notes: Counter[str] = Counter()

    @property
    def eot_token_id(self) -> int:
        return self.text_tokenizer.eos

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has no context: that with which texts begin, or else the end of a text."""
        return (self.text_tokenizer.bos_ids or [self.eot_token_id])[-1]

    @property
    def max_length(self) -> int:
        return self.model.config.context

    @property
    def tokenizer_name(self) -> str:
        return self.text_tokenizer.fingerprint()

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the text that stands for a chat in the requests; its tokens are kept in `prompts`.

        Args:
            add_generation_prompt: False where the last message is the beginning of the answer.
        """
        assert self.chat_format is not None
        messages = [Message(row["role"], row["content"]) for row in chat_history]
        beginning = "" if add_generation_prompt else messages.pop().content
        rendered = self.chat_format.render(Conversation(tuple(messages)), reply=True).tokens
        tokens = rendered + self.text_tokenizer.encode(beginning)
        text = self.text_tokenizer.backend.decode(tokens, skip_special_tokens=False)
        self.prompts[text] = tokens
        return text

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Encode a text, by default behind the tokens with which texts begin, where the tokenizer has such."""
        tokens = self.text_tokenizer.encode(string)
        return tokens if add_special_tokens is False else [*self.text_tokenizer.bos_ids, *tokens]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode both together and divide the tokens by the number of the context's own, as the harness does.

        The answer to a chat is encoded apart, as it is in training.
        """
        if self.chat_format:
            answer = self.tok_encode(continuation, add_special_tokens=False)
            return self.prompts[context], answer
        pair = super()._encode_pair(context, continuation)
        if pair[1]:
            return pair
        # The tokenizer makes one token of the end of the context and of all of the continuation.
        return self.tok_encode(context), self.tok_encode(continuation, add_special_tokens=False)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        for request in requests:
            if not request.args[1]:
                raise UserError(
                    f"--harness {request.task_name}: example {request.doc_id} has an empty continuation, which has "
                    f"no probability; correct the task's doc_to_target or doc_to_choice"
                )
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        for _texts, context, tokens in requests:
            if len(tokens) > self.max_length:
                raise UserError(
                    f"--harness: a continuation of {len(tokens)} tokens does not fit into the model's context of "
                    f"{self.max_length}; this task needs a model with a longer one"
                )
            if len(context) + len(tokens) > self.max_length + 1:
                self._note_cut("context")
        pairs = [Continuation(tuple(context), tuple(tokens)) for _, context, tokens in requests]
        scores = score_continuations(self.model, pairs, "scoring continuations")
        return [(score.log_probability, score.is_greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Return the log-probability of each text, in windows as long as the context; each token counts once."""
        windows: list[Continuation] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            pieces = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, tokens in map(make_disjoint_window, pieces):
                windows.append(Continuation(tuple(context), tuple(tokens)))
                owners.append(number)
        totals = [0.0] * len(requests)
        scores = score_continuations(self.model, windows, "scoring texts")
        for number, score in zip(owners, scores, strict=True):
            totals[number] += score.log_probability
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Answer each prompt, greedily unless its task samples, up to the first of the task's stop strings."""
        groups: dict[str, list[int]] = defaultdict(list)  # requests with equal options
        for number, request in enumerate(requests):
            groups[repr(request.args[1])].append(number)
        answers: dict[int, str] = {}
        batches = [batch for group in groups.values() for batch in self._batches(group, requests)]
        for batch in track_progress(batches, "answering", "batches", len(batches)):
            options = requests[batch[0]].args[1]
            texts = self._answer([requests[number].args[0] for number in batch], options, batch)
            answers |= dict(zip(batch, texts, strict=True))
        return [answers[number] for number in range(len(requests))]

    def _batches(self, numbers: list[int], requests: list[Instance]) -> Iterator[list[int]]:
        """Yield batches of requests whose prompts have similar lengths, the longest first."""
        ordered = sorted(numbers, key=lambda number: len(requests[number].args[0]), reverse=True)
        size = ANSWERS_AT_ONCE
        if is_on_gpu(self.model):
            size = count_fitting_rows(self.model.config, self.max_length)
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def _answer(
        self, contexts: Sequence[str], options: dict[str, Any], seeds: Sequence[int]
    ) -> list[str]:
        read = read_options(options)
        for name in read.unused:
            self.notes[f"the task's generation_kwargs.{name} is not used"] += len(contexts)
        stops, length = read.stops, read.length
        if length > self.max_length // 2:
            length = self.max_length // 2
            self.notes[f"its answer has at most {length} tokens, half of the model's context"] += (
                len(contexts)
            )
        rows = [
            self.prompts[text] if self.chat_format else self.tok_encode(text) for text in contexts
        ]
        prompts = [Prompt(tuple(self._fit(row, length))) for row in rows]
        decode = self.text_tokenizer.decode
        answers = self.generator.generate(
            prompts,
            length,
            read.sampling,
            seeds=seeds,
            stopping_criteria=lambda tokens: find_stop(decode(tokens), stops) is not None,
        )
        texts = map(decode, answers)
        return [text[: find_stop(text, stops)] for text in texts]

    def _fit(self, tokens: list[int], length: int) -> list[int]:
        """Return the tokens of a prompt that leave room for an answer; an empty one is the end of a text."""
        room = self.max_length - length
        if len(tokens) > room:
            self._note_cut("prompt")
        return tokens[-room:] or [self.prefix_token_id]

    def _note_cut(self, part: str) -> None:
        self.notes[f"the start of its {part} is cut to fit into {self.max_length} tokens"] += 1

    def remarks(self) -> list[str]:
        """Return sentences about the requests that are computed otherwise than the task says."""
        return [
            f"{format_count(count, 'request')}: {change}" for change, count in self.notes.items()
        ]
