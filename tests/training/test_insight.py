import base64
import json

import numpy as np
import pytest
import torch

from gptexp.checkpoints.load_model import build_model
from gptexp.data.loader import held_out_batches
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import compute_batch_losses
from gptexp.training.insight import MAX_ATTENDED, look_into


@pytest.fixture
def look(tiny, own_folder):
    """Look into an untrained model of a task with one validation example."""

    def call(*words):
        rows = [{"text": f"text {n} of a book\n" * (8 + n)} for n in range(40)]
        if "task=translate" in words:
            rows = [{"source": f"{n} words " * 30, "target": f"answer {n}"} for n in range(40)]
        path = own_folder / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = tiny("data=files", f"data.path={path}", "tokenizer=char", "init=scratch", *words)
        data = prepare(config)
        torch.manual_seed(0)
        model = build_model(config, data.store.tokenizer.vocab_size)
        return model, data, look_into(model, data.task.layout, data.store, "val")

    return call


def attention_of(insight):
    attention = insight["attention"]
    weights = np.frombuffer(base64.b64decode(attention["weights"]), np.uint8) / 255
    tokens = attention["tokens"]
    return weights.reshape(attention["layers"], attention["heads"], tokens, tokens)


def test_the_losses_of_the_tokens_are_those_of_the_evaluation(look):
    model, data, insight = look("task=pretrain", "model.context=32")
    losses = insight["sample"]["losses"]
    assert losses[0] is None
    assert len(losses) == len(insight["sample"]["tokens"])
    batches = held_out_batches(data.task.layout, data.store, "val", 1, 1)
    sums, counts = compute_batch_losses(model, batches, "32").total()
    assert np.mean(losses[1:]) == pytest.approx(float(sums.mean(counts)), abs=1e-4)


def test_attention_is_kept_of_each_layer_and_head_and_looks_back_only(look):
    model, _, insight = look("task=pretrain", "model.context=32")
    weights = attention_of(insight)
    assert weights.shape[:2] == (model.config.layers, model.config.heads)
    assert weights.sum(axis=-1) == pytest.approx(1.0, abs=0.1)
    assert not np.triu(weights, k=1).any()


def test_a_prompt_is_told_from_its_answer_and_long_sequences_keep_their_end(look):
    _, _, insight = look("task=translate", "model.context=400", "task.max_target_tokens=9")
    sample = insight["sample"]
    assert sample["tokens"][-1] == "<|endoftext|>"
    assert all(loss is None for loss in sample["losses"][: sample["prompt_tokens"]])
    assert all(loss > 0 for loss in sample["losses"][sample["prompt_tokens"] :])
    assert len(sample["tokens"]) > MAX_ATTENDED == insight["attention"]["tokens"]


def test_models_that_read_more_than_tokens_have_none(look):
    words = ("task=translate", "model.arch=encoder_decoder", "task.max_target_tokens=9")
    assert look(*words)[2] == {}
