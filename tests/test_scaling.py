import copy
import json
import random

import pytest

from gptexp import scaling
from gptexp.config.compose import compose_config
from gptexp.config.run_id import folder_name
from gptexp.planning.ladder import measure_size
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder

NEXT = ["task=pretrain", "model=nano", "model.d_model=256", "trainer.max_steps=900"]


def expected_loss(config):
    return 2.0 + 2.2 * (measure_size(config).flops / 1e13) ** -0.18


def save_run(config, loss, **data):
    folder = RunFolder(f"outputs/{folder_name(config)}")
    folder.create(config)
    splits = {"train": {"tokens": 2_000_000}}
    folder.write_record("data", **{"fingerprint": "f", "splits": splits, **data})
    folder.update_result(status="finished", metrics={"test/loss": loss, "test/f1": 1.0})
    return folder


@pytest.fixture
def ladder(own_folder):
    """Five widths whose losses follow a law; the two smallest have two seeds."""
    first, noise = compose_config(NEXT[:2]), random.Random(1)
    folders = []
    for width, steps, seed in (
        *((32, 100, 1), (32, 100, 2), (64, 200, 1), (64, 200, 2)),
        *((96, 300, 1), (128, 400, 1), (192, 600, 1)),
    ):
        config = copy.deepcopy(first)
        config.seed, config.trainer.max_steps = seed, steps
        config.model.d_model, config.model.head_dim = width, width // 4
        loss = expected_loss(config) * (1 + noise.gauss(0, 0.002))
        folders.append(save_run(config, loss))
    assert folders[0].path.resolve().is_relative_to(own_folder)
    return folders


@pytest.mark.usefixtures("ladder")
def test_the_largest_rung_is_predicted_from_the_others(verb):
    text = verb(scaling, "outputs/pretrain-nano-*")
    assert text.splitlines()[0].split() == [
        "training",
        "FLOPs",
        "parameters",
        "tokens",
        "test/loss",
    ]
    assert len(text[: text.index("check")].splitlines()) == 7
    assert "by training FLOPs:" in text
    assert "; covers it" in text
    assert "nano reads" not in text


def test_a_prediction_is_kept_and_stands_beside_the_outcome(verb, ladder):
    text = verb(scaling, "outputs/pretrain-nano-*", *NEXT)
    assert "from 7 runs: pretrain-nano-" in text
    assert f"to measure it: gptexp run {' '.join(NEXT)}" in text
    assert "reads 3,686,400 tokens of 2,000,000" in text
    config = compose_config(NEXT)
    save_run(config, expected_loss(config))
    [entry] = json.loads(verb(scaling, *[run.name for run in ladder], "--json"))["predictions"]
    law = entry["laws"]["flops"]
    assert entry["measured"] == expected_loss(config)
    assert law["low"] < entry["measured"] < law["high"]
    assert law["loss"] == pytest.approx(entry["measured"], rel=0.02)
    assert abs(law["as_last"] - entry["measured"]) > abs(law["loss"] - entry["measured"])
    code, message = verb(scaling, *[run.name for run in ladder], *NEXT)
    assert code == 2
    assert "has finished, and its loss is known" in message


def test_the_next_rung_of_a_sweep_has_its_file_and_shared_settings(verb, ladder):
    command = ["python", "run.py", "-m", "-cn", "ladder", "--config-dir=sweeps", "data.limit=50"]
    sweep = SweepFolder.create(
        ladder[0].path.parent / "sweep-ladder-1", command=command, keys=["experiment"]
    )
    for number, run in enumerate(ladder):
        words = [f"experiment=rung_{number}", "seed=1", "task.test_tokens=null"]
        sweep.add(JobEntry(number + 1, words, "finished", run.name))
    text = verb(scaling, "latest", "experiment=rung_256", "optim.lr=0.01")
    assert "7 runs: pretrain-small-" in text  # on the data and with the task of the rungs
    words = text[text.index("gptexp run") :].splitlines()[0].split()[2:]
    assert words[:3] == ["-cn", "ladder", "-cd"]
    assert words[4:] == ["task.test_tokens=null", "experiment=rung_256", "optim.lr=0.01", "seed=1"]
    assert (sweep.path / "predictions.jsonl").is_file()


def test_a_mistake_is_answered(verb, ladder):
    runs = "outputs/pretrain-nano-*"
    for words, reason in (
        (["latest"], "latest: not a sweep folder"),
        ([], "no ladder: name a sweep"),
        ([runs, "--metric", "test/los"], "All have: test/f1, test/loss"),
        ([runs, *NEXT, "data.limit=7"], "has data.limit=7, the rungs have None"),
        ([runs, "--sweep-file", "laddr", "seed=3"], "Did you mean 'ladder'"),
        (
            [run.name for run in ladder[:3]],
            "2 sizes: a law that is checked on the largest needs at least 4",
        ),
    ):
        code, message = verb(scaling, *words)
        assert (code, reason in message) == (2, True), message
    assert not list(ladder[0].path.parent.glob("*.jsonl"))


def test_runs_on_other_data_are_no_ladder(verb, ladder):
    ladder[3].write_record("data", fingerprint="g")
    code, message = verb(scaling, *[run.name for run in ladder])
    assert (code, "was trained on other data than" in message) == (2, True)


def test_a_ladder_that_allows_a_prediction_but_no_check_is_no_mistake(verb, ladder):
    names = [run.name for run in (ladder[0], *ladder[2:3], *ladder[4:6])]  # four sizes, a seed each
    text = verb(scaling, *names, *NEXT)
    assert "no check by training FLOPs: no scaling law: 3 runs" in text
    assert "from 4 runs: pretrain-nano-" in text
    assert verb(scaling, *names, *NEXT).count("predicted on") == 1
    config = compose_config([*NEXT, "seed=9"])
    save_run(config, expected_loss(config))
    code, message = verb(scaling, *names, *NEXT)
    assert (code, "has finished, and its loss is known" in message) == (2, True)


def test_a_ladder_of_one_model_has_a_law_by_flops_alone(verb, own_folder):
    names = []
    for steps in (100, 200, 300, 400, 500):
        config = compose_config([*NEXT[:2], f"trainer.max_steps={steps}"])
        names.append(save_run(config, expected_loss(config)).name)
    text = verb(scaling, *names)
    assert "by training FLOPs:" in text
    assert "no check by parameters of the blocks: no scaling law: 1 different sizes" in text
    assert own_folder
