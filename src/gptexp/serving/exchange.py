"""The answers to one request, from the worker's queue to the response."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from gptexp.errors import UserError
from gptexp.serving.computations import answer_whole, score_prompt, search
from gptexp.serving.parameters import Parameters
from gptexp.serving.questions import Question, choose_sampling, make_answer
from gptexp.serving.request_error import RequestError
from gptexp.serving.responses import Choice, ResponseFormat, server_event
from gptexp.serving.running_batch import Answer, Piece, TokenScore
from gptexp.serving.served_model import ServedModel
from gptexp.serving.worker import QueueFullError, Worker


async def compute(worker: Worker, function: Callable[[], Any]) -> Any:
    """Run a function in the worker's thread between two steps, and return its result.

    Raises:
        RequestError: too many wait already.
    """
    future: Future[Any] = _submit(lambda: worker.call(function))
    try:
        return await asyncio.wrap_future(future)
    finally:
        future.cancel()


def _submit(submit: Callable[[], Any]) -> Any:
    try:
        return submit()
    except QueueFullError as error:
        raise RequestError(str(error), status=429, code="queue_full") from None


class Exchange:
    """The choices of a response, which fill with parts as the worker delivers them.

    Raises:
        RequestError: options conflict, or have no effect on this task.
    """

    def __init__(
        self,
        model: ServedModel,
        worker: Worker,
        questions: Sequence[Question],
        parameters: Parameters,
        is_chat: bool,
    ) -> None:
        self.model, self.worker = model, worker
        self.questions, self.parameters = questions, parameters
        self.choices = [Choice() for _ in range(len(questions) * parameters.count)]
        self.prompt_tokens = sum(len(question.prompt) for question in questions)
        self._parts: asyncio.Queue[tuple[int, Choice | Exception]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._answers: list[Answer] = []
        self._is_cancelled = False
        warnings = dict.fromkeys(text for question in questions for text in question.warnings)
        extra: dict[str, Any] = {"warnings": list(warnings)} if warnings else {}
        if model.generates_text:
            self.sampling = choose_sampling(model, parameters)
            if self.sampling.temperature > 0:
                extra["seed"] = self.sampling.seed
        else:
            self._refuse_token_options()
        is_scored = parameters.top_tokens is not None
        self.format = ResponseFormat(is_chat, model.name, model.tokenizer, is_scored, extra)

    def _refuse_token_options(self) -> None:
        """Refuse options of token-by-token generation for a task that answers in another way."""
        parameters = self.parameters
        options = {
            **parameters.sampling,
            "n": parameters.count > 1,
            "logprobs": parameters.top_tokens is not None,
            "stop": parameters.stop,
            "echo": parameters.echoes,
        }
        for name, value in options.items():
            if value:
                raise RequestError(
                    f"{name}: has no effect with task={self.model.kind}, which does not choose tokens",
                    name,
                )

    async def start(self) -> None:
        """Let the worker begin.

        Raises:
            RequestError: too many requests wait already.
        """
        if not self.model.generates_text:
            for number, question in enumerate(self.questions):
                text = str(await self._compute(partial(answer_whole, self.model, question)))
                tokens = len(self.model.tokenizer.encode(text))
                self._put(number, Choice(text, [], tokens, "stop"))
            return
        if self.parameters.echoes:
            for number, question in enumerate(self.questions):
                await self._echo(number, question)
        if self.model.max_new_tokens(self.parameters.max_tokens) == 0:
            for index in range(len(self.choices)):
                self._put(index, Choice(finish_reason="length"))
        elif max(self.sampling.num_beams, self.sampling.mbr_samples) > 1:
            for number, question in enumerate(self.questions):
                await self._search(number, question)
        else:
            self._decode()

    async def collect(self) -> dict[str, Any]:
        """Return the response, once all answers have ended."""
        await self.start()
        async for _ in self._finish():
            pass
        return self.format.whole(self.choices, self.prompt_tokens)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the events of a response that streams."""
        indices: set[int] = set()  # of choices whose first part has been sent
        try:
            async for index, part in self._finish():
                if part.text or part.scores or part.finish_reason:
                    yield server_event(self.format.chunk(index, part, index not in indices))
                    indices.add(index)
            if self.parameters.includes_usage:
                yield server_event(self.format.usage_chunk(self.choices, self.prompt_tokens))
            yield server_event("[DONE]")
        except RequestError as error:
            yield server_event(error.body())

    def cancel(self) -> None:
        """Let answers that have not ended leave the batch, and end a search."""
        self._is_cancelled = True
        for answer in self._answers:
            answer.is_cancelled = True

    async def _finish(self) -> AsyncIterator[tuple[int, Choice]]:
        """Add each part to its choice and yield it, until all choices have ended.

        Raises:
            RequestError: the model failed.
        """
        while any(choice.finish_reason is None for choice in self.choices):
            index, part = await self._parts.get()
            if isinstance(part, Exception):
                raise _explain(part)
            choice = self.choices[index]
            choice.text += part.text
            choice.scores += part.scores
            choice.tokens += part.tokens
            choice.finish_reason = part.finish_reason
            yield index, part

    def _put(self, index: int, part: Choice | Exception) -> None:
        self._parts.put_nowait((index, part))

    async def _compute(self, function: Callable[[], Any]) -> Any:
        try:
            return await compute(self.worker, function)
        except RequestError:
            raise
        except Exception as error:
            raise _explain(error) from error

    async def _echo(self, number: int, question: Question) -> None:
        """Let each answer begin with its prompt."""
        scores: list[TokenScore] = []
        top = self.parameters.top_tokens
        if top is not None:
            scores = await self._compute(lambda: score_prompt(self.model, question.prompt, top))
        for index in self._indices(number):
            self._put(index, Choice(question.text, scores))

    async def _search(self, number: int, question: Question) -> None:
        answers = await self._compute(
            lambda: search(
                self.model, question, self.parameters, self.sampling, lambda: self._is_cancelled
            )
        )
        for index, answer in zip(self._indices(number), answers, strict=True):
            answer.scores = [self._shift(score, number) for score in answer.scores]
            self._put(index, answer)

    def _decode(self) -> None:
        """Let the answers join the batch."""
        for number, question in enumerate(self.questions):
            seeds = self.sampling.seeds(self.parameters.count)
            for index, seed in zip(self._indices(number), seeds, strict=True):
                receive = self._receiver(index, number)
                self._answers.append(
                    make_answer(self.model, question, self.parameters, self.sampling, seed, receive)
                )
        _submit(lambda: self.worker.submit(self._answers))

    def _indices(self, number: int) -> range:
        """Return the indices of the choices that answer a question."""
        count = self.parameters.count
        return range(number * count, (number + 1) * count)

    def _receiver(self, index: int, number: int) -> Callable[[Piece | Exception], None]:
        """Return the function that hands pieces over from the worker's thread."""

        def receive(piece: Piece | Exception) -> None:
            part: Choice | Exception
            if isinstance(piece, Exception):
                part = piece
            else:
                scores = [self._shift(piece.score, number)] if piece.score else []
                part = Choice(piece.text, scores, piece.tokens, piece.finish_reason)
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._put, index, part)

        return receive

    def _shift(self, score: TokenScore, number: int) -> TokenScore:
        """Count the offset of a token from the beginning of the text, an echoed prompt included."""
        before = len(self.questions[number].text) if self.parameters.echoes else 0
        return replace(score, offset=score.offset + before)


def _explain(error: Exception) -> RequestError:
    """Return the answer to a request that failed while the model computed."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, UserError | ValueError):
        return RequestError(str(error))
    return RequestError(f"the model failed ({error!r:.200})", status=500)
