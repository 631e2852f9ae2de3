import pytest

from gptexp.errors import UserError
from gptexp.sweeping.search_space import Choices, Range, read_space, seed_of


def test_the_words_of_a_sweep_are_values_ranges_and_seeds():
    space = read_space(
        [
            "task=translate",
            "optim.lr=tag(log,interval(0.001,0.1))",
            "model=nano,small",
            "seed=1,2,2",
        ]
    )
    assert space.fixed == {"task": "translate"}
    assert space.axes == {
        "optim.lr": Range(0.001, 0.1, is_log=True),
        "model": Choices(("nano", "small")),
    }
    assert space.seeds == (1, 2)


def test_the_last_word_for_a_key_counts():
    space = read_space(["optim.lr=0.1,0.2", "seed=1,2", "~callbacks", "optim.lr=0.3", "seed=5"])
    assert (space.axes, space.seeds) == ({}, (5,))
    assert space.words({}) == ["~callbacks", "optim.lr=0.3"]


def test_a_grid_has_all_combinations_in_the_order_of_the_words():
    space = read_space(["a=1,2", "task=translate", "b='x,y',z"])
    assert space.grid() == [
        ["task=translate", "a=1", "b='x,y'"],
        ["task=translate", "a=1", "b=z"],
        ["task=translate", "a=2", "b='x,y'"],
        ["task=translate", "a=2", "b=z"],
    ]
    assert space.size == 4
    assert space.values_of(space.grid()[1]) == {"a": "1", "b": "z"}


@pytest.mark.parametrize(
    ("word", "position", "value"),
    [
        ("optim.lr=tag(log,interval(0.001,0.1))", 0.5, "0.01"),
        ("optim.lr=interval(0,1)", 0.25, "0.25"),
        ("model.layers=interval(1,8)", 0.99, "8"),
        ("model.layers=range(1,9)", 0.99, "8"),
        ("optim.lr=tag(log,interval(0.00123456,0.1))", 0, "0.00123456"),
        ("optim.lr=interval(0.123456789,0.9)", 0, "0.123456789"),
    ],
)
def test_a_range_gives_numbers_with_few_digits(word, position, value):
    (axis,) = read_space([word]).axes.values()
    assert axis.value_at(position) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optim.lr=interval(0.1,0.01)", "first number must be lower"),
        ("optim.lr=tag(log,interval(0,1))", "first number must be positive and lower"),
        ("optim.lr=tag(lgo,interval(0.1,1))", r"type optim.lr=tag\(log,interval\(0.1,1\)\)"),
        ("task=interval(0,1)", "the setting is no number"),
        ("trainer.precision=interval(0,1)", "the setting is no number"),
        ("seed=interval(1,5)", "type seed=1,2,3"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        read_space([word])


def test_a_job_is_known_by_its_swept_values_and_its_seed():
    space = read_space(["optim.lr=0.1,0.2", "++task.x=1,2", "seed=3,4", "logger=none"])
    assert space.values_and_seed(["++task.x=2", "optim.lr=0.1", "seed=4"]) == (("0.1", "2"), 4)
    assert space.values_and_seed(["+task.x=2", "logger=none", "optim.lr=0.1"])[1] == 3
    assert seed_of(["optim.lr=0.1"]) is None
