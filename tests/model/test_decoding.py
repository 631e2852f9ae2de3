import pytest
import torch
from test_transformer import a_model

from gptexp.model.decoding import Sampling, generate, restrict

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14]]


def test_cached_greedy_is_the_argmax_of_the_whole_sequence():
    model = a_model()
    [said] = generate(model, [PROMPTS[0]], 12, stop=-1)
    tokens = list(PROMPTS[0])
    for _ in range(12):
        tokens.append(int(model.head(model(torch.tensor([tokens])))[0, -1].argmax()))
    assert said == tokens[3:]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9, top_k=20, top_p=0.9, seed=3)])
def test_a_batch_says_what_each_prompt_says_alone(sampling):
    model = a_model()
    together = generate(model, PROMPTS[:1] + PROMPTS[1:], 10, 0, sampling)
    assert together[0] == generate(model, PROMPTS[:1], 10, 0, sampling)[0]
    if sampling.temperature == 0:
        assert together == [generate(model, [prompt], 10, 0)[0] for prompt in PROMPTS]


def test_generation_ends_at_the_stop_token_and_leaves_the_mode_alone():
    model = a_model().train()
    free = generate(model, PROMPTS[:1], 10, stop=-1)[0]
    stopped = generate(model, PROMPTS[:1], 10, stop=free[4])[0]
    assert stopped == free[: free.index(free[4])]
    assert model.training


def test_a_long_prompt_keeps_its_end():
    model = a_model()
    long = list(range(1, 40))
    assert generate(model, [long], 4, -1) == generate(model, [long[-20:]], 4, -1)


def test_top_k_and_top_p_keep_the_likeliest():
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert torch.isfinite(restrict(logits, 2, 1.0)).tolist() == [[False, True, False, True]]
    assert torch.isfinite(restrict(logits, 0, 0.7)).tolist() == [[False, True, False, True]]
    assert torch.isfinite(restrict(logits, 0, 0.01)).tolist() == [[False, True, False, False]]


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    from gptexp.model.decoding import choose

    generators = [torch.Generator().manual_seed(i) for i in range(4000)]
    drawn = choose(logits.expand(4000, 3), Sampling(temperature=1.0), generators).bincount(minlength=3) / 4000
    torch.testing.assert_close(drawn, torch.tensor([0.6, 0.3, 0.1]), atol=0.03, rtol=0)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -2}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="temperature and top_k"):
        Sampling(**wrong)


@pytest.mark.parametrize(("prompts", "new"), [([[]], 5), ([[1]], 0), ([[1]], 24)])
def test_prompts_and_lengths_that_cannot_work_are_refused(prompts, new):
    with pytest.raises(ValueError, match=r"no tokens|max_new_tokens"):
        generate(a_model(), prompts, new, 0)
