from conftest import TRAIN

from gptexp.data.corpora import pydocs
from gptexp.run import run
from gptexp.runs.tables import result_text


def write_package(folder, count):
    """Write docstrings; every third has a summary whose words stand nowhere below it."""
    folder.mkdir()
    lines = []
    for i in range(count):
        first = f"Find the shelf of number{i}" if i % 3 else "Grow green vegetables"
        rest = " ".join(f"{folder.name}{i}x{j}" for j in range(20))
        lines += [f"def find_shelf{i}(number{i}):", f'    """{first} {i}.\n\n    {rest}"""']
    (folder / "module.py").write_text("\n".join(lines))


def test_a_model_is_scored_before_and_after_training_and_on_all_test_pairs(
    tiny, own_folder, monkeypatch, capsys
):
    sources = [("shelf", 90), ("fsspec", 9)]
    for name, count in sources:
        write_package(own_folder / name, count)
    folders = [(name, "1", "MIT", own_folder / name) for name, _ in sources]
    monkeypatch.setattr(pydocs, "_sources", lambda _: folders)
    words = ["task=summarize", "tokenizer=byte", "data.unseen=[fsspec]", "data.test_fraction=0.3"]
    words += ["model.context=128", "task.max_target_tokens=8", "task.mbr_samples=1", *TRAIN]
    words += ["trainer.max_steps=2", "task.test_examples=10", "task.samples=2"]
    base = run(tiny(*words, "task.score_before=false", "outputs=base"))
    words.append(f"init={base.path}")
    plain = run(tiny(*words, "task.score_before=false", "outputs=plain"))
    folder = run(tiny(*words, "task.score_before=true", "task.test_tokens=200"))
    line = capsys.readouterr().err
    losses = [[row["train/loss"] for row in one.metrics()] for one in (plain, folder)]
    assert losses[0] == losses[1]  # scoring draws no random number of training
    metrics, others = folder.result()["metrics"], plain.result()["metrics"]
    assert metrics["test/rouge1"] == others["test/rouge1"]
    assert metrics["test/loss"] != others["test/loss"]  # of a part of the split
    assert metrics["test/targets"] > 0
    assert "test/targets" not in others
    assert "sequences, as task.test_tokens=200 says" in " ".join(folder.result()["remarks"])
    assert len(folder.read_record("before")["outputs"]) == 2
    for split in ("test", "test/unseen", "test/all"):
        assert metrics[f"{split}/before/support"] == base.result()["metrics"][f"{split}/support"]
        assert f"{split}/before/support" not in others
    assert metrics["test/all/baseline/rouge1"] < metrics["test/baseline/rouge1"]
    assert f"before training: test/rougeL {metrics['test/before/rougeL']:.4g} (baseline " in line
    assert folder.samples()[0]["before"] == base.samples()[0]["output"]
    text = result_text(folder)
    assert text.count("   before ") == 3  # of two samples and of the table
    assert "by test/unseen/rougeL the model is NOT better than the baseline (" in text
