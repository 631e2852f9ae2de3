from dataclasses import fields

import pytest

from gptexp.config.schema.task import TextToTextConfig
from gptexp.sampling import OPTION_TEXTS, Sampling


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
            "num_beams=2 searches, mbr_samples=4 samples: one of them must",
        ),
        ({"length_penalty": 2.0}, "num_beams must be above 1"),
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("of_task", "answers", "overrides", "expected"),
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
        (Sampling(0.5, mbr_samples=8, top_k=5), 3, {}, Sampling(0.8, top_k=5)),
    ],
)
def test_overrides_take_the_place_of_the_options_of_the_task(of_task, answers, overrides, expected):
    assert of_task.with_overrides(answers, **overrides, repetition_penalty=None) == expected


def test_settings_of_tasks_describe_an_option_as_it_is_described_here():
    texts = {setting.name: setting.metadata["doc"] for setting in fields(TextToTextConfig)}
    for name in ("num_beams", "length_penalty", "mbr_samples", "no_repeat_ngram"):
        assert texts[name] == OPTION_TEXTS[name]
