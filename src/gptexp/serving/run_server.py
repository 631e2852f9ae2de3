"""Put the parts of the server together, and run it until a signal ends it."""

import socket
from collections.abc import Sequence
from contextlib import suppress

import uvicorn

from gptexp.checkpoints.find_weights import PretrainedFolder
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.serving.app import Server
from gptexp.serving.guard import names_of_this_machine
from gptexp.serving.running_batch import RunningBatch
from gptexp.serving.served_model import ServedModel
from gptexp.serving.worker import Worker

SECONDS_TO_END = 2  # for answers that stream when a signal arrives


class RunningServer:
    """A server of one model on an open port.

    Args:
        listener: the open port.
        hosts: further names of this server.
        max_batch: answers that are computed at once.
        max_waiting: answers that wait for their turn.
    """

    def __init__(
        self,
        model: ServedModel,
        listener: socket.socket,
        hosts: Sequence[str] = (),
        max_batch: int = 16,
        max_waiting: int = 256,
    ) -> None:
        batch = RunningBatch(model.transformer, model.tokenizer.eos_ids, model.weights, max_batch)
        self.worker = Worker(batch, max_waiting)
        self.name, self.listener = model.name, listener
        address = listener.getsockname()[0]
        allowed = {*names_of_this_machine(address), *hosts}
        config = uvicorn.Config(
            Server(model, self.worker).app(allowed),
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        self.uvicorn = uvicorn.Server(config)

    def run(self) -> None:
        """Answer requests until Ctrl-C or SIGTERM."""
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean end
            self.uvicorn.run(sockets=[self.listener])
        self.worker.stop()


def start_server(
    source: RunFolder | PretrainedFolder,
    listener: socket.socket,
    hosts: Sequence[str] = (),
    weights: str = "float32",
    max_batch: int = 16,
    max_waiting: int = 256,
) -> RunningServer:
    """Load a model and its worker; `run` of the result answers requests.

    Raises:
        UserError: the model cannot be loaded or served.
    """
    model = ServedModel.load(source, weights)
    try:
        return RunningServer(model, listener, hosts, max_batch, max_waiting)
    except ValueError as error:
        raise UserError(str(error)) from None
