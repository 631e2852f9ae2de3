import pytest

import gptexp.run
from gptexp.config import compose
from gptexp.config.run_id import run_id
from gptexp.config.seeds import expand_seeds
from gptexp.errors import UserError
from gptexp.run import run


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["seeds=3"], "seed=1,2,3"),
        (["seeds=2", "seed=7"], "seed=7,8"),
        (["seed=5", "seeds=1"], "seed=5"),
        (["seeds=9", "seeds=2"], "seed=1,2"),
    ],
)
def test_seeds_stands_for_the_seeds_from_the_given_one_on(words, seeds):
    assert expand_seeds(["model=nano", *words]) == ["model=nano", seeds]


def test_other_words_stay_as_they_are():
    assert expand_seeds(["model=nano", "seed=1,2", "x"]) == ["model=nano", "seed=1,2", "x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seeds=0"], "seeds=0: must be a whole number from 1 to 9999, such as seeds=5"),
        (["seeds=1,2"], "seeds=1,2: must be a whole number"),
        (["seeds=3", "seed=9223372036854775807"], "and may be at most 9223372036854775807"),
        (["seeds=2", "seed=1,2"], "seed=1,2 seeds=2: seeds= counts on from one seed; give seed="),
    ],
)
def test_seeds_that_cannot_be_counted_are_refused(words, message):
    with pytest.raises(UserError) as raised:
        expand_seeds(words)
    assert message in str(raised.value)


def test_the_number_of_seeds_does_not_rename_a_run():
    one, three = (compose.compose_config([f"seeds={count}"]) for count in (1, 3))
    assert run_id(one) == run_id(three)


def test_seeds_of_a_yaml_file_or_of_python_are_not_ignored():
    with pytest.raises(
        UserError, match="seeds=3: a command of gptexp run trains over several seeds"
    ):
        run(compose.compose_config(["seeds=3"]))


def test_seeds_make_a_sweep_of_a_command(verb):
    code, message = verb(gptexp.run, "seeds=3", "--cfg", "job")
    assert code == 2
    assert "seeds=: cannot stand beside --cfg" in message
