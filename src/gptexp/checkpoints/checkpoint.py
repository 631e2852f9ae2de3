"""One checkpoint on disk: the same files whatever the strategy, safetensors and JSON only, nothing pickled.

checkpoints/step-000100/model.safetensors      weights, named as in the plain Transformer
                        optimizer.safetensors  tensors of the optimizers' state
                        optimizer.json         the rest of that state, and the names of its tensors
                        callbacks.safetensors, callbacks.json   the same for user callbacks that have state
                        state.json             step, tokens, seconds, place in the order of sequences and in the
                                               learning-rate schedule, best validation loss, metrics
                        manifest.json          step, fingerprint, and sha256 and size of each file
checkpoints/last, checkpoints/best             name of a folder

A sharded checkpoint has one model and one optimizer file a rank, model-00001-of-00002.safetensors (see
distributed/sharding.py). Code that reads tensors verifies the manifest first.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from gptexp.checkpoints.optimizer_state import Encoded, OptimizerState
from gptexp.distributed import sharding
from gptexp.errors import UserError
from gptexp.files import loads_checked, sha256
from gptexp.stored_tensors import StoredTensor


class CorruptCheckpointError(Exception):
    """A checkpoint differs from what was written; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    path: Path

    @staticmethod
    def folder_name(step: int) -> str:
        return f"step-{step:06d}"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return loads_checked((self.path / "manifest.json").read_text())

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The model, tokenizer, data and optimizer that the checkpoint belongs to (see fingerprint.py)."""
        return self.manifest["fingerprint"]

    @cached_property
    def state(self) -> dict[str, Any]:
        return json.loads((self.path / "state.json").read_text())

    def verify(self) -> None:
        """Compare all files with the manifest.

        Raises:
            CorruptCheckpointError: a file is missing or differs.
        """
        try:
            manifest = self.manifest
        except (OSError, ValueError) as error:
            raise CorruptCheckpointError(
                f"{self.path / 'manifest.json'}: not readable ({error})"
            ) from error
        if self.path.name != self.folder_name(manifest["step"]):
            raise CorruptCheckpointError(
                f"{self.path}: holds the checkpoint of step {manifest['step']}"
            )
        for name, expected in manifest["files"].items():
            file = self.path / name
            if not file.is_file():
                raise CorruptCheckpointError(f"{file}: is missing")
            if file.stat().st_size != expected["bytes"]:
                raise CorruptCheckpointError(
                    f"{file}: has {file.stat().st_size:,} bytes instead of {expected['bytes']:,}"
                )
            if sha256(file) != expected["sha256"]:
                raise CorruptCheckpointError(
                    f"{file}: its content is not what was written (sha256 differs)"
                )

    def load_weights(self, model: nn.Module) -> None:
        """Read the weights into a model. The caller has verified the checkpoint.

        Raises:
            UserError: the model has other parameters.
        """
        sharding.fill_parameters(model, self.weights_of(model))

    def weights_of(self, model: nn.Module) -> dict[str, StoredTensor]:
        """Return the weights by name, which are not read yet.

        Raises:
            UserError: the model has other parameters.
        """
        weights = sharding.open_tensors(self.path, "model")
        parameters = dict(model.named_parameters())
        for name in sorted({*parameters, *weights}):
            ours, theirs = (
                tuple(tensors[name].shape) if name in tensors else "missing"
                for tensors in (parameters, weights)
            )
            if ours != theirs:
                raise UserError(
                    f"{self.path}: weights of another model: {name} is {theirs} there, {ours} here"
                )
        return weights

    def load_optimizers(self, optimizers: OptimizerState) -> None:
        """Restore the optimizers' state, sharded as their parameters are. The caller has verified the checkpoint.

        Raises:
            UserError: it is the state of other optimizers.
        """
        try:
            optimizers.load(self._read_encoded("optimizer"))
        except ValueError as error:
            raise UserError(f"{self.path}: {error}. fresh=true starts again") from None

    def load_callbacks(self) -> dict[str, Any]:
        """Return the state of each user callback that has some, by Lightning's state key."""
        if not (self.path / "callbacks.json").is_file():
            return {}
        return self._read_encoded("callbacks").decode()

    def _read_encoded(self, kind: str) -> Encoded:
        values = json.loads((self.path / f"{kind}.json").read_text())
        return Encoded(values, stored=sharding.open_tensors(self.path, kind))
