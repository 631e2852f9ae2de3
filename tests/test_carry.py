"""examples/base/carry.py: folders in parts."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "base"))
import carry

from gptexp.errors import RunError, UserError


@pytest.fixture
def files(own_folder):
    (own_folder / "inner").mkdir()
    contents = {"one": b"1" * 5000, "inner/two": bytes(range(256)) * 40, "empty": b""}
    for name, content in contents.items():
        (own_folder / name).write_bytes(content)
    return {name: own_folder / name for name in contents}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("part_bytes", [300, 10240, 1 << 20])
def test_joined_parts_are_the_files_that_were_packed(compress, part_bytes, files):
    parts, joined = Path("parts"), Path("joined")
    count = carry.pack(files, parts, part_bytes, compress)
    sizes = [path.stat().st_size for path in sorted(parts.glob("part-*"))]
    assert len(sizes) == count
    assert set(sizes[:-1]) <= {part_bytes}
    assert sizes[-1] <= part_bytes
    carry.join(parts, joined)
    assert {
        str(path.relative_to(joined)): path.read_bytes()
        for path in joined.rglob("*")
        if path.is_file()
    } == {name: path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize("damage", ["missing", "changed", "no list"])
def test_a_folder_comes_out_complete_or_not_at_all(damage, files):
    parts = Path("parts")
    carry.pack(files, parts, 300, compress=True)
    message = {
        "missing": r"1 of \d+ parts are missing: part-001",
        "changed": r"part-001: is not what was packed\. Copy it again",
        "no list": r"parts: has no readable parts\.json\. Copy it with its parts",
    }[damage]
    match damage:
        case "missing":
            (parts / "part-001").unlink()
        case "changed":
            (parts / "part-001").write_bytes(b"0" * 300)
        case "no list":
            (parts / "parts.json").unlink()
    with pytest.raises(UserError, match=message):
        carry.join(parts, Path("joined"))
    assert not Path("joined").exists()


def test_a_run_comes_back_with_its_last_and_best_checkpoint_alone(own_folder):
    for name in ("step-000001", "step-000002", "step-000003", "step-000004"):
        (own_folder / "run" / "checkpoints" / name).mkdir(parents=True)
        (own_folder / "run" / "checkpoints" / name / "model.safetensors").touch()
    (own_folder / "run" / "checkpoints" / "last").write_text("step-000004\n")
    (own_folder / "run" / "checkpoints" / "best").write_text("step-000002\n")
    (own_folder / "run" / "config.yaml").touch()
    assert sorted(carry.files_to_bring_back(own_folder / "run")) == [
        "checkpoints/best",
        "checkpoints/last",
        "checkpoints/step-000002/model.safetensors",
        "checkpoints/step-000004/model.safetensors",
        "config.yaml",
    ]


def test_training_goes_on_from_what_another_machine_left_and_a_failure_is_packed_too(own_folder):
    job, run = own_folder / "job", own_folder / "pretrain-nano-1"
    (job / "store").mkdir(parents=True)
    (job / "words.json").write_text(json.dumps(["no_such_key=1"]))
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last").write_text("step-000001\n")
    (run / "config.yaml").touch()
    carry.pack(carry.files_to_bring_back(run), job / "back" / run.name, 300, compress=False)
    with pytest.raises(
        RunError, match=r"pretrain-nano-1: ended with code 2; \d+ parts? in .*back/"
    ):
        carry.train_job(job, minutes=2.0)
    assert (job / "outputs" / run.name / "config.yaml").is_file()
