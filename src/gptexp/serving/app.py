"""The HTTP interface: paths of OpenAI's API, one for captions, and a page to try the model."""

import asyncio
import json
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gptexp.serving.chat import read_messages, read_request_tools
from gptexp.serving.computations import speak
from gptexp.serving.exchange import Exchange, compute
from gptexp.serving.guard import Guard
from gptexp.serving.page import write_page
from gptexp.serving.parameters import Parameters, read_parameters
from gptexp.serving.questions import (
    Question,
    ask_chat,
    ask_image,
    ask_text,
    ask_tokens,
    check_length,
    check_size,
)
from gptexp.serving.request_error import RequestError
from gptexp.serving.served_model import ServedModel
from gptexp.serving.worker import Worker

MAX_TEXT_BYTES, MAX_IMAGE_BYTES = 1 << 22, 1 << 24  # of the body of a request
PATHS = "/v1/models, /v1/completions, /v1/chat/completions, /v1/captions, /v1/audio/speech, and / for the page"
AUDIO_TYPES = {"wav": "audio/wav", "flac": "audio/flac"}


class Server:
    """Handlers of requests to one model."""

    def __init__(self, model: ServedModel, worker: Worker) -> None:
        self.model, self.worker = model, worker

    def app(self, hosts: Collection[str]) -> Starlette:
        """Return the application.

        Args:
            hosts: names that requests may use for this machine.
        """
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.one_model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/captions", self.captions, methods=["POST"]),
            Route("/v1/audio/speech", self.speech, methods=["POST"]),
            Route("/", self.page),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, hosts=hosts)],
            exception_handlers={
                RequestError: _answer_request_error,
                ClientDisconnect: _answer_nobody,
                404: _answer_not_found,
                405: _answer_not_allowed,
                Exception: _answer_failure,
            },
        )

    async def page(self, _: Request) -> Response:
        return HTMLResponse(write_page(self.model.describe()))

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.model.describe()]})

    async def one_model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return JSONResponse(self.model.describe())

    async def completions(self, request: Request) -> Response:
        body = await _read_json(request, MAX_TEXT_BYTES)
        self._check_name(body.get("model"))
        parameters = read_parameters(body, is_chat=False)
        questions = await run_in_threadpool(self._ask_prompts, body.get("prompt"), parameters)
        return await self._respond(request, questions, parameters, is_chat=False)

    async def chat(self, request: Request) -> Response:
        is_image = self.model.input_kind == "image"
        body = await _read_json(request, MAX_IMAGE_BYTES if is_image else MAX_TEXT_BYTES)
        self._check_name(body.get("model"))
        parameters = read_parameters(body, is_chat=True)
        messages, tools = read_messages(body), read_request_tools(body)
        self._check_count(1, parameters)
        question = await run_in_threadpool(
            ask_chat, self.model, messages, tools, parameters.max_tokens
        )
        return await self._respond(request, [question], parameters, is_chat=True)

    async def captions(self, request: Request) -> Response:
        data = await _read_body(request, MAX_IMAGE_BYTES)
        question = await run_in_threadpool(ask_image, self.model, data)
        parameters = read_parameters({}, is_chat=False)
        return await self._respond(request, [question], parameters, is_chat=False)

    async def speech(self, request: Request) -> Response:
        body = await _read_json(request, MAX_TEXT_BYTES)
        self._check_name(body.get("model"))
        text, voice = body.get("input"), body.get("voice")
        suffix = body.get("response_format") or "wav"
        if not isinstance(text, str):
            raise RequestError("input: must be the text to speak", "input")
        check_size(self.model, text, "input")
        if voice is not None and not isinstance(voice, str):
            raise RequestError("voice: must be the name of a voice", "voice")
        if not isinstance(suffix, str) or suffix not in AUDIO_TYPES:
            raise RequestError(
                f"response_format={suffix!r:.40}: must be one of {', '.join(AUDIO_TYPES)}",
                "response_format",
            )
        if body.get("speed") not in (None, 1):
            raise RequestError("speed: is not supported; leave it out", "speed")
        if body.get("instructions"):
            raise RequestError("instructions: are not supported; leave them out", "instructions")
        if body.get("stream_format") not in (None, "audio"):
            raise RequestError("stream_format: must be audio, or left out", "stream_format")
        audio = compute(self.worker, lambda: speak(self.model, text, voice, suffix))
        data = await _unless_disconnected(request, audio)
        return Response(data, media_type=AUDIO_TYPES[suffix])

    def _check_name(self, name: Any) -> None:
        if name is not None and name != self.model.name:
            raise RequestError(
                f"model={name!r:.80}: is not served here; use {self.model.name}, or leave it out",
                "model",
                status=404,
                code="model_not_found",
            )

    def _ask_prompts(self, prompt: Any, parameters: Parameters) -> list[Question]:
        """Return the questions of `prompt`: a text, a list of texts, token numbers, or a list of such lists."""
        model, length = self.model, parameters.max_tokens
        prompts = prompt if isinstance(prompt, list) else [prompt]
        if _is_tokens(prompt):
            prompts = [prompt]
        self._check_count(len(prompts), parameters)
        if all(isinstance(item, str) for item in prompts) and prompts:
            return [ask_text(model, item, length) for item in prompts]
        if all(map(_is_tokens, prompts)) and prompts:
            return [ask_tokens(model, item, length) for item in prompts]
        raise RequestError(
            "prompt: must be a text, a list of texts, a list of token numbers, or a list of such lists",
            "prompt",
        )

    def _check_count(self, prompts: int, parameters: Parameters) -> None:
        """Check the number of answers before anything is encoded."""
        count, limit = prompts * parameters.count, self.worker.max_waiting
        if count > limit:
            name = "prompt" if parameters.count == 1 else "n"
            raise RequestError(f"{name}: {count} answers in one request; at most {limit}", name)

    async def _respond(
        self, request: Request, questions: Sequence[Question], parameters: Parameters, is_chat: bool
    ) -> Response:
        for question in questions:
            if self.model.generates_text:
                check_length(self.model, question, parameters)
        exchange = Exchange(self.model, self.worker, questions, parameters, is_chat)
        try:
            if not parameters.is_stream:
                return JSONResponse(await _unless_disconnected(request, exchange.collect()))
            await _unless_disconnected(request, exchange.start())
            return EventStream(exchange)
        except BaseException:
            exchange.cancel()
            raise


class EventStream(StreamingResponse):
    """A stream that cancels its answers when the client is gone."""

    def __init__(self, exchange: Exchange) -> None:
        headers = {"cache-control": "no-cache"}
        super().__init__(exchange.stream(), media_type="text/event-stream", headers=headers)
        self.exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.exchange.cancel()


async def _unless_disconnected(request: Request, answer: Coroutine[Any, Any, Any]) -> Any:
    """Wait for an answer as long as the client does.

    Raises:
        ClientDisconnect: it has closed the connection.
    """
    task, gone = asyncio.create_task(answer), asyncio.create_task(_wait_for_end(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _wait_for_end(request: Request) -> None:
    """Wait until the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise RequestError(f"the request has more than {limit >> 20} MiB", status=413)
        parts.append(part)
    return b"".join(parts)


async def _read_json(request: Request, limit: int) -> dict[str, Any]:
    data = await _read_body(request, limit)
    try:
        body = json.loads(data)
        json.dumps(
            body, ensure_ascii=False
        ).encode()  # fails where half of a surrogate pair stands alone
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON ({error})") from None
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


async def _answer_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error.body(), error.status)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nginx's number for a client that has closed the connection


async def _answer_not_found(request: Request, _: Exception) -> Response:
    error = RequestError(f"{request.url.path}: there is no such path. Paths: {PATHS}", status=404)
    return JSONResponse(error.body(), error.status)


async def _answer_not_allowed(request: Request, _: Exception) -> Response:
    error = RequestError(f"{request.url.path}: does not answer {request.method}", status=405)
    return JSONResponse(error.body(), error.status)


async def _answer_failure(_: Request, error: Exception) -> Response:
    body = RequestError(f"the server failed ({type(error).__name__}); its log says why", status=500)
    return JSONResponse(body.body(), 500)
