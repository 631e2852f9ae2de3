import numpy as np
import pytest
import torch
from models import a_model

from gptexp.generation.decode_state import DecodeState
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt

ROWS = np.arange(12, dtype=np.uint8).reshape(2, 6)


def test_prompts_are_compared_by_value():
    same = [Prompt((-1, -1, 3), ROWS), Prompt((-1, -1, 3), ROWS.copy())]
    others = [Prompt((-1, -1, 3), ROWS + 1), Prompt((-1, -1, 4), ROWS), Prompt((3,)), Prompt((4,))]
    assert len({*same, *others}) == 5


def test_rows_of_features_without_a_token_each_are_refused():
    with pytest.raises(ValueError, match="2 rows of features for 1 negative tokens"):
        Prompt((-1, 3), ROWS)


def test_a_negative_token_without_features_is_refused():
    with pytest.raises(ValueError, match="token -1 of a prompt"):
        Generator(a_model(feature_size=6), eos=-1).generate([Prompt((-1, 3))], 4)


def test_prompts_with_and_without_features_share_a_batch():
    model = a_model(feature_size=6, arch="prefix")
    prompts = [Prompt((-1, -1, 3), ROWS), Prompt((5, 6)), Prompt((-1, 7), ROWS[1:])]
    generator = Generator(model, eos=-1)
    together = generator.generate(prompts, 6)
    assert together == [generator.generate([prompt], 6)[0] for prompt in prompts]


def test_a_prompt_with_features_is_not_cut():
    with pytest.raises(ValueError, match="does not fit after a prompt of 3 tokens"):
        Generator(a_model(feature_size=6), eos=-1).generate([Prompt((-1, -1, 3), ROWS)], 22)


def test_copies_of_a_prompt_are_computed_once():
    model = a_model()
    rows = []
    model.embedding.register_forward_hook(lambda *call: rows.append(len(call[-1])))
    with torch.inference_mode():
        state = DecodeState(model, [Prompt((1, 2)), Prompt((3,)), Prompt((1, 2))], 4)
    assert rows == [2]
    assert torch.equal(state.logits[0], state.logits[2])
    assert not torch.equal(state.logits[0], state.logits[1])
