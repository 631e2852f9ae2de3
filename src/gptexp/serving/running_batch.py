"""The answers that are being generated, as one batch that they join and leave between two steps.

Legend: B sequences, T tokens, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState, generation_mode, prompt_room
from gptexp.generation.gpu_decoder import GpuDecoder, count_fitting_rows, is_on_gpu
from gptexp.generation.next_token import apply_repetition_penalties, sample_next_token
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import AnswerText
from gptexp.model import Transformer, TransformerConfig
from gptexp.sampling import Sampling
from gptexp.serving.join_states import fill_rows, join_states


@dataclass(frozen=True)
class TokenScore:
    """A token, its log-probability before the options of sampling, and the most likely tokens in its place."""

    token: int
    log_probability: float | None  # None: the first token of a text
    top: tuple[tuple[int, float], ...] = ()
    offset: int = 0  # characters of the answer before it


@dataclass(frozen=True)
class Piece:
    """The part of an answer that a step adds."""

    text: str
    score: TokenScore | None = None
    tokens: int = 1
    finish_reason: str | None = None  # "stop" or "length"


@dataclass(eq=False)
class Answer:
    """One answer to one prompt, and the function that receives its pieces, or the error that ends it."""

    prompt: Prompt
    max_new_tokens: int
    sampling: Sampling
    seed: int
    text: AnswerText
    deliver: Callable[[Piece | Exception], None]
    top_tokens: int | None = None  # likeliest tokens to report at each position; None: no scores
    uniform: Tensor = field(init=False)  # [max_new_tokens], a random number for each token
    is_cancelled: bool = False

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.uniform = torch.rand(self.max_new_tokens, generator=generator)

    @property
    def tokens_left(self) -> int:
        return self.max_new_tokens - len(self.text.tokens)


class RunningBatch:
    """Decodes answers greedily or by sampling; each gets the tokens that it would get alone.

    Args:
        eos: tokens that end an answer.
        weights: format of the weights on a CPU: see Generator.
        max_rows: answers that are computed at once.
    """

    def __init__(
        self, model: Transformer, eos: frozenset[int], weights: str, max_rows: int
    ) -> None:
        self.model, self.eos, self.max_rows = model, eos, max_rows
        self.answers: list[Answer] = []
        self._state: DecodeState | None = None
        self._decoder: CpuDecoder | GpuDecoder | None
        if is_on_gpu(model):
            self._decoder = GpuDecoder.for_model(model)
        else:
            self._decoder = CpuDecoder.for_model(model, weights, rows=max(2, max_rows))

    def has_room(self, answer: Answer, joining: Sequence[Answer] = ()) -> bool:
        """Return whether an answer can join beside others: rows are limited, and so is the memory of their cache."""
        together = [*self.answers, *joining, answer]
        if len(together) > self.max_rows:
            return False
        room = partial(prompt_room, self.model.config)
        size = max(
            min(len(a.prompt), room(a.max_new_tokens)) + len(a.text.tokens) for a in together
        )
        size += max(a.tokens_left for a in together)
        return len(together) <= count_fitting_rows(self.model.config, size)

    @torch.inference_mode()
    def add(self, answers: Sequence[Answer]) -> None:
        """Compute the prompts of new answers together, and let them join.

        Raises:
            ValueError: see DecodeState.
        """
        if self._state is not None and len(self._state.logits) > len(self.answers):
            self._state.select(range(len(self.answers)))  # without copies that fill up
        prompts = [cut_prompt(self.model.config, a.prompt, a.max_new_tokens) for a in answers]
        room = max(answer.tokens_left for answer in [*self.answers, *answers])
        with generation_mode(self.model):
            new = DecodeState(self.model, prompts, max_new_tokens=1)
            states = [new] if self._state is None else [self._state, new]
            self._state = join_states(states, room, self._decoder)
        self.answers += answers

    @torch.inference_mode()
    def step(self) -> list[tuple[Answer, Piece | Exception]]:
        """Add a token to each answer, and drop the answers that end with it, fail or are cancelled."""
        state = self._state
        assert state is not None
        self._drop([answer for answer in self.answers if answer.is_cancelled])
        if not self.answers:
            return []
        logits = state.logits[: len(self.answers)]
        pieces: list[tuple[Answer, Piece | Exception]] = []
        ended, left = [], []
        choices = self._choose(logits, list(range(len(self.answers))))
        for row, answer in enumerate(self.answers):
            token = choices[row]
            piece = (
                token if isinstance(token, Exception) else self._take(answer, token, logits[row])
            )
            pieces.append((answer, piece))
            if isinstance(token, Exception) or isinstance(piece, Exception) or piece.finish_reason:
                ended.append(answer)
            else:
                left.append(token)
        self._drop(ended)
        if self.answers:
            filler = len(state.logits) - len(left)
            with generation_mode(self.model):
                device = state.logits.device
                state.step(torch.tensor([*left, *left[:1] * filler], device=device))
        return pieces

    def clear(self) -> None:
        """Forget all answers, after an error."""
        self.answers, self._state = [], None

    def _choose(self, logits: Tensor, rows: list[int]) -> dict[int, int | Exception]:
        """Return the next token of the answer in each row, or the error that ends it alone.

        Answers with equal options and lengths are computed together; if that fails, each by itself.
        """
        groups: dict[tuple[Sampling, int], list[int]] = {}
        for row in rows:
            answer = self.answers[row]
            groups.setdefault((answer.sampling, len(answer.text.tokens)), []).append(row)
        tokens: dict[int, int | Exception] = {}
        for (sampling, length), group in groups.items():
            answers = [self.answers[row] for row in group]
            try:
                history = torch.tensor([a.text.tokens for a in answers], device=logits.device)
                scores = logits[group].float()
                scores = apply_repetition_penalties(scores, history.long(), sampling)
                uniform = torch.stack([answer.uniform[length] for answer in answers])
                chosen = sample_next_token(scores, sampling, uniform.to(logits.device))
                tokens.update(zip(group, chosen.tolist(), strict=True))
            except Exception as error:
                if len(group) == 1:
                    tokens[group[0]] = error
                else:
                    for row in group:
                        tokens |= self._choose(logits, [row])
        return tokens

    def _take(self, answer: Answer, token: int, logits: Tensor) -> Piece | Exception:
        """Return the part of an answer that a token adds, or the error that ends the answer."""
        try:
            top = answer.top_tokens
            score = None if top is None else score_token(logits, token, top, answer.text)
            return self._add(answer, token, score)
        except Exception as error:
            return error

    def _add(self, answer: Answer, token: int, score: TokenScore | None) -> Piece:
        if token in self.eos:
            return Piece(answer.text.finish(), None, 0, "stop")
        text = answer.text.add(token)
        if answer.text.has_stopped:
            return Piece(text, score, 1, "stop")
        if not answer.tokens_left:
            return Piece(text + answer.text.finish(), score, 1, "length")
        return Piece(text, score)

    def _drop(self, answers: Sequence[Answer]) -> None:
        if answers:
            self._keep([row for row, a in enumerate(self.answers) if a not in answers])

    def _keep(self, rows: list[int]) -> None:
        """Keep the answers in these rows; on a GPU, copies of the first fill up to a power of two."""
        self.answers = [self.answers[row] for row in rows]
        if not rows:
            self._state = None
        elif self._state is not None:
            is_static = self._state.batch is not None
            self._state.select(fill_rows(rows) if is_static else rows)


def cut_prompt(config: TransformerConfig, prompt: Prompt, max_new_tokens: int) -> Prompt:
    """Drop the first tokens of a prompt that leaves no room for its answer, as DecodeState does."""
    room = prompt_room(config, max_new_tokens)
    return prompt if prompt.features is not None else Prompt(prompt.tokens[-room:])


def score_token(logits: Tensor, token: int, top: int, before: AnswerText) -> TokenScore:
    """Return the score of a token that was chosen from logits [V], behind the text before it."""
    log_probabilities = logits.float().log_softmax(dim=-1)
    values, indices = log_probabilities.topk(min(top, len(logits)))
    likeliest = tuple(zip(indices.tolist(), values.tolist(), strict=True))
    offset = len(before.text.rstrip("\N{REPLACEMENT CHARACTER}"))
    return TokenScore(token, float(log_probabilities[token]), likeliest, offset)
