import pytest
import torch
from conftest import likeness

from gptexp.checkpoints.load_model import build_model
from gptexp.data.loader import HeldOutDataset
from gptexp.errors import RunError
from gptexp.model import Transformer
from gptexp.run import run
from gptexp.runs.run_folder import find_run
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import compute_batch_losses, compute_outputs
from gptexp.training.optimizers import AdamW
from gptexp.training.out_of_memory import explain_out_of_memory, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        torch.distributed.DistBackendError("NCCL error: Failed to CUDA calloc async 24 bytes"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:40],
)
def test_lack_of_memory_is_known_by_all_its_messages(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), RunError("out of memory"), OSError("out of memory")]
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), explain_out_of_memory():
        raise error


def limit_sequences(monkeypatch, size, applies=lambda _: True):
    """Let the model have memory for `size` sequences at once."""
    loss = Transformer.loss

    def needs_memory(self, **inputs):
        if len(inputs["tokens"]) > size and applies(self):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, **inputs)

    monkeypatch.setattr(Transformer, "loss", needs_memory)


def test_a_held_out_pass_takes_smaller_parts(translation, monkeypatch):
    config = translation("data.val_fraction=0.2")
    data = prepare(config)
    model = build_model(config, data.store.tokenizer.vocab_size)
    batches = HeldOutDataset(data.task.layout.dataset(data.store, "val", None), 7)
    plain, counts = compute_batch_losses(model, batches, "32").total()
    limit_sequences(monkeypatch, 2)
    small, small_counts = compute_batch_losses(model, batches, "32").total()
    torch.testing.assert_close(small.targets, plain.targets, atol=0, rtol=1e-6)
    assert small_counts == counts
    limit_sequences(monkeypatch, 0)
    with pytest.raises(RunError, match="use a smaller model"), explain_out_of_memory():
        compute_batch_losses(model, batches, "32").total()

    answer = data.task.answerer.answer

    def answer_two(model, tokenizer, inputs):
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(model, tokenizer, inputs)

    inputs = ["a", "bird falls", "tree", "the river", "to stone"]
    expected = compute_outputs(model, data.task, data.store.tokenizer, inputs)
    monkeypatch.setattr(data.task.answerer, "answer", answer_two)
    assert compute_outputs(model, data.task, data.store.tokenizer, inputs) == expected


def test_an_optimizer_without_memory_for_its_state_says_what_helps(translation, monkeypatch):
    def step(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")

    monkeypatch.setattr(AdamW, "step", step)
    message = r"out of memory \(CUDA out of memory. Tried to allocate 2.00 GiB.\) outside of a"
    with pytest.raises(RunError, match=f"^{message} micro-batch, .* trainer.strategy=fsdp"):
        run(translation("optim=adamw"))
    assert find_run("latest").result()["status"] == "failed"


@pytest.mark.parametrize(("is_training", "size"), [(True, 4), (False, 7)])
def test_a_sharded_run_of_one_process_starts_again_with_less(
    is_training, size, translation, monkeypatch, capsys
):
    """FSDP cannot repeat a pass that ended in its middle. A validation has 14 sequences, a step 8."""
    sharded = ["trainer.strategy=fsdp", "optim=adamw"]
    plain = run(translation("outputs=plain", *sharded, f"trainer.micro_batch_size={size}"))
    limit_sequences(monkeypatch, size, lambda model: model.training == is_training)
    folder = run(translation(*sharded))
    assert capsys.readouterr().err.count("starting again from the last checkpoint") == 1
    assert folder.read_record("micro_batch") == {"micro_batch_size": size}
    (rows, _, tensors), (plain_rows, _, plain_tensors) = likeness(folder), likeness(plain)
    assert (rows, tensors) == (plain_rows, plain_tensors)
    assert not torch.distributed.is_initialized()
