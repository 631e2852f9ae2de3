import pytest
import torch

from gptexp.generation.next_token import (
    apply_repetition_penalties,
    filter_logits,
    sample_next_token,
)
from gptexp.sampling import Sampling

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
def test_the_most_likely_tokens_are_kept(top_k, top_p, min_p, kept):
    logits, tokens = filter_logits(LOGITS, top_k, top_p, min_p)
    assert {
        int(token) for value, token in zip(logits[0], tokens[0], strict=True) if value > -torch.inf
    } == kept


@pytest.mark.parametrize(("top_k", "expected"), [(0, [0.6, 0.3, 0.1]), (2, [2 / 3, 1 / 3, 0])])
def test_samples_follow_the_distribution(top_k, expected):
    logits = torch.tensor([[0.6, 0.3, 0.1]]).sqrt().log()  # what a temperature of 1/2 squares
    uniform = (torch.arange(1000) + 0.5) / 1000
    samples = (
        sample_next_token(logits.expand(1000, 3), Sampling(0.5, top_k=top_k), uniform).bincount(
            minlength=3
        )
        / 1000
    )
    torch.testing.assert_close(samples, torch.tensor(expected), atol=1e-3, rtol=0)


def test_no_random_number_samples_an_excluded_token():
    logits = torch.full((2, 5000), -torch.inf)
    logits[:, 17] = 0.0
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert sample_next_token(logits, Sampling(1.0), ends).tolist() == [17, 17]


def test_the_repetition_penalty_lowers_scores_of_either_sign():
    scores = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    answers = torch.tensor([[0, 1, 0]])
    changed = apply_repetition_penalties(scores, answers, Sampling(repetition_penalty=2.0))
    assert changed.tolist() == [[1.0, -4.0, 2.0, -2.0]]
    assert (
        apply_repetition_penalties(scores, answers[:, :0], Sampling(repetition_penalty=2.0))
        is scores
    )


@pytest.mark.parametrize(
    ("n", "answer", "forbidden"),
    [
        (1, [3, 1], {1, 3}),
        (2, [1, 2, 1], {2}),
        (3, [1, 2, 3, 1, 2], {3}),
        (3, [1, 2], set()),
        (2, [4, 4], {4}),
    ],
)
def test_an_answer_repeats_no_n_gram(n, answer, forbidden):
    answers = torch.tensor([answer, [0] * len(answer)])  # the other row does not matter
    scores = apply_repetition_penalties(torch.zeros(2, 5), answers, Sampling(no_repeat_ngram=n))
    assert {token for token, score in enumerate(scores[0]) if score == -torch.inf} == forbidden
