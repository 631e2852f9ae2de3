import json

from gptexp.runs.run_folder import RunFolder
from gptexp.sweeping.pruning import Curve, explain_hopeless, read_curve


def curve(*losses: float, steps: int = 900, is_finished: bool = False, kind: str = "") -> Curve:
    """Losses at steps 100, 200, ..."""
    return Curve({100 * i: loss for i, loss in enumerate(losses, 1)}, steps, is_finished, kind)


GOOD = curve(5, 4, 3, 2.8, 2.6, 2.4, 2.3, 2.2, 2.1, is_finished=True)  # gains 0.9 from step 300 on
PEERS = [GOOD, curve(5, 4, 3.1), curve(6, 4.1, 3.2)]


def test_a_job_that_cannot_reach_the_best_is_hopeless():
    reason = explain_hopeless(curve(6, 5, 4), PEERS)
    assert reason is not None
    assert "val/loss 4 at step 300 of 900" in reason
    assert "0.9, leaves 2.65, and the best is 2.1" in reason


def test_a_job_within_reach_is_not():
    assert explain_hopeless(curve(6, 5, 3.4), PEERS) is None


def test_a_job_that_starts_far_away_and_ends_badly_keeps_no_other_alive():
    wild = curve(30, 30, 30, 20, 10, 5, 4, 3.5, 3.2, is_finished=True)
    assert explain_hopeless(curve(6, 5, 4), [*PEERS, wild])


def test_no_job_is_hopeless_before_a_third_of_the_steps_or_after_the_last():
    assert explain_hopeless(curve(9, 9), PEERS) is None
    assert explain_hopeless(curve(*[9.0] * 9), [curve(*[2.0] * 9, is_finished=True)] * 3) is None


def test_it_takes_jobs_to_compare_with():
    assert explain_hopeless(curve(9, 9, 9), PEERS[:2]) is None
    running = [curve(5, 4, 3)] * 3
    assert explain_hopeless(curve(9, 9, 9), running) is None
    others = [curve(*GOOD.losses.values(), is_finished=True, kind="another schedule")] * 3
    assert explain_hopeless(curve(9, 9, 9), others) is None
    assert explain_hopeless(curve(9, 9, 9), [curve(2, 1, is_finished=True)] * 3) is None


def test_the_better_half_is_never_hopeless():
    stuck = curve(2.5, 2.5, 2.5, 2.5, is_finished=True)
    peers = [stuck, curve(9, 9, 9), curve(9, 9, 9), curve(9, 9, 9)]
    assert explain_hopeless(curve(9, 9, 8), peers) is None


def test_a_curve_is_read_from_the_run_folder(own_folder, tiny):
    run = RunFolder(own_folder / "run")
    assert read_curve(run, is_finished=False) is None
    run.create(tiny("task=translate", "trainer.max_steps=30"))
    for row in ({"step": 10}, {"step": 20, "val/loss": 2.5}):
        run.append_metrics(row)
    with run.metrics_file.open("a") as out:
        out.write(json.dumps({"step": 30, "val/loss": 2.25})[:-3])
    curves = [read_curve(run, is_finished=False)]
    assert (curves[0].losses, curves[0].max_steps) == ({20: 2.5}, 30)
    run.create(tiny("task=translate", "trainer.max_steps=30", "optim.lr=0.5", "model.d_model=64"))
    curves.append(read_curve(run, is_finished=False))
    run.create(tiny("task=translate", "trainer.max_steps=30", "schedule=constant"))
    curves.append(read_curve(run, is_finished=False))
    assert curves[0].comparable == curves[1].comparable != curves[2].comparable


def test_worse_jobs_do_not_revive_a_pruned_one():
    peers = [GOOD, *[curve(9, 9, 9)] * 4]
    assert explain_hopeless(curve(6, 5, 4), peers) is None
    assert explain_hopeless(curve(6, 5, 4), peers, is_pruned=True)
    assert explain_hopeless(curve(6, 5, 3), peers, is_pruned=True) is None
