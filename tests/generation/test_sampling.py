import pytest
import torch

from gptexp.generation.sampling import Sampling, apply_repetition_penalties, choose, filter_logits

LOGITS = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p", "kept"),
    [
        (0, 1.0, 0.0, {0, 1, 2, 3}),
        (2, 1.0, 0.0, {1, 3}),
        (9, 1.0, 0.0, {0, 1, 2, 3}),
        (0, 0.7, 0.0, {1, 3}),
        (0, 0.01, 0.0, {1}),
        (0, 1.0, 0.25, {1, 2, 3}),
        (0, 1.0, 1.0, {1}),
        (3, 0.8, 0.0, {1, 3}),  # the nucleus of what top-k has left
        (0, 0.95, 0.4, {1, 3}),
    ],
)
def test_the_likeliest_are_kept(top_k, top_p, min_p, kept):
    logits, tokens = filter_logits(LOGITS, top_k, top_p, min_p)
    assert {
        int(token) for value, token in zip(logits[0], tokens[0], strict=True) if value > -torch.inf
    } == kept


@pytest.mark.parametrize(("top_k", "expected"), [(0, [0.6, 0.3, 0.1]), (2, [2 / 3, 1 / 3, 0])])
def test_drawing_follows_the_distribution(top_k, expected):
    logits = torch.tensor([[0.6, 0.3, 0.1]]).sqrt().log()  # what a temperature of 1/2 squares
    uniform = (torch.arange(1000) + 0.5) / 1000
    drawn = (
        choose(logits.expand(1000, 3), Sampling(0.5, top_k=top_k), uniform).bincount(minlength=3)
        / 1000
    )
    torch.testing.assert_close(drawn, torch.tensor(expected), atol=1e-3, rtol=0)


def test_no_number_draws_what_is_excluded():
    logits = torch.full((2, 5000), -torch.inf)
    logits[:, 17] = 0.0
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert choose(logits, Sampling(1.0), ends).tolist() == [17, 17]


def test_repetition_makes_what_was_said_less_likely_whatever_its_sign():
    scores = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    changed = apply_repetition_penalties(scores, [[0, 1, 0]], Sampling(repetition_penalty=2.0))
    assert changed.tolist() == [[1.0, -4.0, 2.0, -2.0]]
    assert apply_repetition_penalties(scores, [[]], Sampling(repetition_penalty=2.0)) is scores


@pytest.mark.parametrize(
    ("n", "said", "forbidden"),
    [
        (1, [3, 1], {1, 3}),
        (2, [1, 2, 1], {2}),
        (3, [1, 2, 3, 1, 2], {3}),
        (3, [1, 2], set()),
        (2, [4, 4], {4}),
    ],
)
def test_no_n_tokens_stand_in_an_answer_twice(n, said, forbidden):
    scores = apply_repetition_penalties(torch.zeros(1, 5), [said], Sampling(no_repeat_ngram=n))
    assert {token for token, score in enumerate(scores[0]) if score == -torch.inf} == forbidden


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0: must be at least 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p=0.0: must be above 0 and at most 1"),
        ({"temperature": 1.0, "top_k": -2}, "top_k"),
        ({"temperature": 1.0, "min_p": 1.5}, "min_p=1.5: must be between 0 and 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram"),
        ({"num_beams": 0}, "num_beams=0: must be at least 1"),
        ({"num_beams": 2, "length_penalty": float("inf")}, "length_penalty"),
        ({"temperature": 1.0, "num_beams": 2}, "temperature must be 0"),
        ({"top_k": 5}, "temperature must be above 0"),
        ({"temperature": 0.5, "mbr_samples": 0}, "mbr_samples=0: must be at least 1"),
        ({"mbr_samples": 4}, "temperature must be above 0"),
        (
            {"mbr_samples": 4, "num_beams": 2, "temperature": 0.5},
            "num_beams=2 searches, mbr_samples=4 draws: one of them must",
        ),
        ({"length_penalty": 2.0}, "beams must be above 1"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("of_task", "answers", "given", "found"),
    [
        (
            Sampling(num_beams=4, length_penalty=2.0),
            1,
            {},
            Sampling(num_beams=4, length_penalty=2.0),
        ),
        (
            Sampling(num_beams=4, length_penalty=2.0),
            1,
            {"temperature": 0.5, "top_k": 3},
            Sampling(0.5, top_k=3),
        ),
        (Sampling(num_beams=4, length_penalty=2.0), 9, {}, Sampling(0.8)),
        (Sampling(num_beams=4), 3, {}, Sampling(num_beams=4)),
        (Sampling(num_beams=4, length_penalty=2.0), 1, {"num_beams": 1}, Sampling()),
        (Sampling(0.8), 1, {"seed": 7}, Sampling(0.8, seed=7)),
        (Sampling(0.8), 1, {"num_beams": 2}, Sampling(num_beams=2)),
        (Sampling(), 2, {}, Sampling(0.8)),
        (Sampling(0.5, mbr_samples=8), 1, {"seed": 7}, Sampling(0.5, mbr_samples=8, seed=7)),
        (Sampling(0.5, mbr_samples=8), 1, {"temperature": 0.7}, Sampling(0.7, mbr_samples=8)),
        (Sampling(0.5, mbr_samples=8), 1, {"top_p": 0.8}, Sampling(0.5, mbr_samples=8, top_p=0.8)),
        (Sampling(0.5, mbr_samples=8), 1, {"temperature": 0.0}, Sampling()),
        (Sampling(0.5, mbr_samples=8), 2, {"mbr_samples": 4}, Sampling(0.5, mbr_samples=4)),
        (Sampling(0.5, mbr_samples=8), 1, {"mbr_samples": 1, "num_beams": 1}, Sampling()),
        (Sampling(0.5, mbr_samples=8), 1, {"mbr_samples": 4}, Sampling(0.5, mbr_samples=4)),
        (Sampling(0.5, mbr_samples=8), 3, {}, Sampling(0.8)),
        (Sampling(0.5, mbr_samples=8), 3, {"num_beams": 4}, Sampling(num_beams=4)),
        (Sampling(num_beams=4), 1, {"mbr_samples": 4}, Sampling(0.8, mbr_samples=4)),
    ],
)
def test_what_is_asked_for_takes_the_place_of_what_the_task_does(of_task, answers, given, found):
    assert of_task.changed(answers, **given, repetition_penalty=None) == found
