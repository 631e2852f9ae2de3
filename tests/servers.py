"""Servers of small models, each in a thread of its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from openai import OpenAI

from gptexp.config import schema
from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import Tokenizer, build
from gptexp.model import Transformer, TransformerConfig
from gptexp.serving.run_server import RunningServer
from gptexp.serving.served_model import ServedModel
from gptexp.tasks.speech.settings import SpeakConfig
from gptexp.tasks.task import Task, make_task

BYTES = build(ByteConfig(), [])
SHAPE = {"layers": 2, "d_model": 32, "heads": 4, "kv_heads": 2, "d_ff": 48, "context": 64}


def a_text_model(tokenizer: Tokenizer = BYTES, **switches: object) -> Transformer:
    """Random weights that answer with letters, and with the two bytes of characters like é."""
    torch.manual_seed(0)
    size = {"vocab_size": tokenizer.vocab_size}
    model = Transformer(TransformerConfig(**{**SHAPE, **size, **switches}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        others = [*range(65), *range(91, 97), *range(123, 194), *range(196, 260)]
        model.embedding.weight[others] = 0
    return model.eval()


def a_task(config: schema.TaskConfig, model: Transformer) -> Task:
    return make_task(config, schema.ModelConfig(size="tiny", context=model.config.context))


def serve_text(
    config: schema.TaskConfig | None = None, tokenizer: Tokenizer = BYTES, **options: object
) -> ServedModel:
    model = a_text_model(tokenizer)
    task = a_task(config or schema.PretrainConfig(max_new_tokens=24), model)
    return ServedModel("tiny", model, tokenizer, task, **options)


def serve_speech() -> ServedModel:
    """A model with random weights that speaks with two voices."""
    config = SpeakConfig(voices=["low", "high"])
    torch.manual_seed(0)
    features = {
        "feature_size": config.feature_size,
        "feature_bins": config.feature_bins,
        "predicts_features": True,
    }
    model = Transformer(TransformerConfig(vocab_size=BYTES.vocab_size, **SHAPE, **features)).eval()
    return ServedModel("tiny", model, BYTES, a_task(config, model))


@contextmanager
def running(model: ServedModel, **options: object) -> Iterator[RunningServer]:
    server = RunningServer(model, socket.create_server(("127.0.0.1", 0)), **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.uvicorn.should_exit = True
        thread.join()


@contextmanager
def gated_steps(server: RunningServer) -> Iterator[threading.Semaphore]:
    """Each step of the batch waits until the test releases it."""
    gate, step = threading.Semaphore(0), server.worker.batch.step

    def gated_step() -> list:
        gate.acquire()
        return step()

    server.worker.batch.step = gated_step
    try:
        yield gate
    finally:
        server.worker.batch.step = step
        gate.release(10_000)


def wait_for(is_reached: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def client_of(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address_of(server)}/v1", api_key="none", max_retries=0) as client:
        yield client


def address_of(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.listener.getsockname()[1]}"
