"""The audit of a corpus with planted faults names all of them and nothing else."""

import json
import os
import random
from pathlib import Path

import pytest
from conftest import text_of

from gptexp import audit
from gptexp.auditing.audit_data import audit_data
from gptexp.auditing.filtered_copy import LOG, write_filtered_copy
from gptexp.auditing.report import data_json
from gptexp.auditing.word_lists import load_groups
from gptexp.config.compose import compose_config
from gptexp.errors import UserError

RNG = random.Random(0)


def pairs(count: int) -> list[dict[str, str]]:
    return [{"source": text_of(RNG, 30), "target": text_of(RNG, 9)} for _ in range(count)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(own_folder: Path) -> list[str]:
    """60 training and 10 test pairs, with faults in known lines."""
    train, test = pairs(60), pairs(10)
    train[1] = {name: text.upper() for name, text in train[0].items()}  # equal
    train[3] = train[2] | {"target": f"{train[2]['target']} more"}  # near
    train[4]["source"] = test[0]["source"]  # the input of a test example
    train[5]["source"] += f" {test[1]['source']} {text_of(RNG, 20)}"  # contains one
    train[6]["target"] = test[2]["target"]
    train[7]["source"] += " write to jane.doe@example.org"
    test[3]["target"] += " +49 30 1234567"
    train[8]["source"] += " he is a Dragon, and she is one of two dragons"
    train.append({"source": "no answer", "target": " "})
    write(own_folder / "train.jsonl", train)
    write(own_folder / "test.jsonl", test)
    return ["task=summarize", "data=files", "data.path=train.jsonl", "data.test_path=test.jsonl"]


def faulty(result, fault: str) -> set[tuple[str, int]]:
    lines = []
    for example in result.examples:
        if example.row in result.faults[fault]:
            source = "train" if example.split in ("train", "val") else "test"
            rows = Path(f"{source}.jsonl").read_text().splitlines()
            lines.append((source, [json.loads(row) for row in rows].index(example.fields)))
    return set(lines)


def test_all_planted_faults_are_named_and_nothing_else(corpus):
    result = audit_data(
        compose_config([*corpus, "data.val_fraction=0"]), load_groups(), {"beasts": ["dragon*"]}
    )
    assert result.examples.counts() == {"train": 60, "test": 10}
    assert set(result.examples.account.left_out) == {"the field 'target' is empty"}
    assert len(faulty(result, "duplicates") & {("train", 0), ("train", 1)}) == 1
    assert len(faulty(result, "duplicates")) == 2
    assert faulty(result, "leaks") == {("train", 4), ("train", 5), ("train", 6)}
    assert faulty(result, "personal") == {("train", 7), ("test", 3)}
    assert faulty(result, "terms") == {("train", 8)}
    assert result.terms["beasts"]["dragon*"].occurrences == 2
    assert result.groups.counts["gender"]["female"].near_lists == {"beasts": 1}
    values = json.loads(json.dumps(data_json(result)))
    assert {finding["text"] for finding in values["personal"]} == {
        "jane.doe@example.org",
        "+49 30 1234567",
    }
    assert values["left_out"]["the field 'target' is empty"]["count"] == 1


def test_a_copy_without_faults_passes_its_own_audit(corpus):
    result = audit_data(compose_config([*corpus, "data.val_fraction=0"]), load_groups())
    left_out = write_filtered_copy(result, Path("clean"), ("duplicates", "leaks", "personal"))
    assert left_out == {"duplicates": 2, "leaks": 3, "personal": 2}
    log = [json.loads(line) for line in Path("clean", LOG).read_text().splitlines()]
    assert len(log) == 7
    assert {"equal to", "contains 100%", "e-mail in"} <= {
        phrase
        for phrase in ("equal to", "contains 100%", "e-mail in")
        if any(phrase in entry["reason"] for entry in log)
    }
    again = ["data.path=clean/train.jsonl", "data.test_path=clean/test.jsonl"]
    config = compose_config(["task=summarize", "data=files", "data.val_fraction=0", *again])
    clean = audit_data(config, load_groups())
    assert clean.examples.counts() == {"train": 54, "test": 9}
    assert not any(clean.faults.values())


def test_conversations_are_audited_by_what_they_say_and_copied_as_messages(own_folder):
    rows = []
    for number in range(60):
        question = f"{text_of(RNG, 20)} {'jane.doe@example.org' if number == 4 else number}"
        chat = [{"from": "human", "value": question}, {"from": "gpt", "value": text_of(RNG, 9)}]
        rows.append({"conversations": chat})
    write(own_folder / "train.jsonl", rows)
    config = compose_config(["task=chat", "data=files", "data.path=train.jsonl"])
    result = audit_data(config, load_groups())
    assert list(result.faults["personal"]) == [4]
    assert not any(map(result.faults.__getitem__, ("duplicates", "leaks")))
    write_filtered_copy(result, Path("clean"), ("personal",))
    copied = [
        json.loads(line)
        for split in ("train", "val", "test")
        for line in Path("clean", f"{split}.jsonl").read_text().splitlines()
    ]
    assert len(copied) == 59
    assert {message["role"] for row in copied for message in row["messages"]} == {
        *("user", "assistant")
    }


def test_a_copy_of_a_text_has_the_same_text_but_for_the_faults(own_folder):
    lines = [text_of(RNG, 40) for _ in range(60)]
    lines[20] += " jane.doe@example.org"
    (own_folder / "corpus.txt").write_text("\n".join(lines) + "\n")
    config = compose_config(["task=pretrain", "data=files", "data.path=corpus.txt"])
    result = audit_data(config, load_groups())
    write_filtered_copy(result, Path("clean"), ("personal",))
    [entry] = [json.loads(line) for line in Path("clean", LOG).read_text().splitlines()]
    records = [
        json.loads(line)["text"]
        for split in ("train", "val", "test")
        for line in Path("clean", f"{split}.jsonl").read_text().splitlines()
    ]
    kept = "".join(records) + entry["fields"]["text"]
    assert sorted(kept.split()) == sorted(" ".join(lines).split())
    assert len(records) < len(result.examples) - 1  # the pieces of a document are joined


def test_a_copy_is_never_half_written(corpus):
    result = audit_data(compose_config([*corpus, "data.val_fraction=0"]), load_groups())
    result.faults["terms"] = {
        example.row: "x" for example in result.examples if example.split == "test"
    }
    with pytest.raises(UserError, match="nothing would be left of the test split"):
        write_filtered_copy(result, Path("clean"), ("terms",))
    assert not list(Path().glob("*clean*"))


@pytest.mark.parametrize("kind", ["txt", "jsonl", "folder"])
def test_training_texts_of_a_benchmark_are_found(kind, corpus, own_folder):
    text = json.loads(Path("train.jsonl").read_text().splitlines()[10])["source"]
    file = own_folder / f"bench.{kind}"
    if kind == "folder":
        file.mkdir()
        write(file / "b.jsonl", [{"question": text, "answer": "yes"}])
    elif kind == "txt":
        file.write_text(f"{text_of(RNG, 12)}\n{text.upper()}\n")
    else:
        write(file, [{"question": {"text": text}, "choices": ["a", text_of(RNG, 10)]}])
    config = compose_config([*corpus, "data.val_fraction=0"])
    result = audit_data(config, load_groups(), benchmarks=[file])
    leaks = [leak for leak in result.leaks if leak.item.split == "benchmark"]
    assert [leak.share for leak in leaks] == [1.0]
    assert f"line {2 if kind == 'txt' else 1}" in leaks[0].item.where


def test_the_verb_prints_and_writes_a_report_without_personal_data(corpus, verb, own_folder):
    (own_folder / "mine.txt").write_text("dragon\nunicorn\n")
    words = [
        "--json",
        "audit.json",
        "--html",
        "audit.html",
        "--fix",
        "clean",
        "--terms",
        "mine.txt",
    ]
    text = verb(audit, *corpus, "data.val_fraction=0", *words)
    assert "2 repeat another example of their split, 1 one of another split" in text
    assert "3 of 10 texts of test" in text
    assert "in 2 examples: e-mail 1, phone 1" in text
    assert "1 of 2 terms occur" in text
    assert "clean: a copy of the data without 7 examples" in text
    paths = "data.path=clean/train.jsonl data.test_path=clean/test.jsonl"
    assert f"gptexp run task=summarize data=files {paths}" in text
    page = Path("audit.html").read_text()
    assert "jane.doe" not in text + page
    assert page.count("<h2 ") == 7
    assert json.loads(Path("audit.json").read_text())["examples"] == {"train": 60, "test": 10}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to audit: name the data"),
        (["--model", "nothing"], "nothing"),
        (["--terms", "x.txt", "--model", "m"], "--terms concerns data"),
        (["task=summarize", "--json", "no/such/a.json"], "does not exist or cannot be written to"),
        (["task=summarize", "--html", "."], "--html .: is a folder; give a file"),
        (["task=summarize", "--fix", "."], "--fix .: is not empty; give a new folder"),
        (["task=summarize", "--drop", "leaks"], "add --fix FOLDER"),
        (
            ["task=summarize", "--drop", "dups"],
            "Allowed: duplicates, leaks, personal, passages, terms",
        ),
        (["task=summarize", "--benchmark", "no"], "no: no such file or folder"),
        (["task=summarize", "--sentences", "s.yaml"], "name it with --model RUN"),
        (["task=summarise"], "Did you mean"),
        (["--modle", "x"], "Did you mean --model?"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_read(words, message, verb, own_folder):
    (own_folder / "own.txt").write_text("mine")
    code, error = verb(audit, *words)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_a_copy_can_name_a_file_whose_name_is_no_utf8(own_folder):
    rng = random.Random(7)
    lines = [json.dumps({"text": text_of(rng, 30)}) for _ in range(20)]
    (own_folder / os.fsdecode(b"p\xff.jsonl")).write_text("\n".join([*lines, *lines[:2]]))
    words = ["task=pretrain", "model=nano", "data=files", "data.path=."]
    result = audit_data(compose_config(words), load_groups())
    assert write_filtered_copy(result, Path("clean"), ("duplicates",))["duplicates"] == 2
    assert "p?.jsonl" in Path("clean/left_out.jsonl").read_text()


def test_pictures_are_compared_by_content(own_folder):
    from PIL import Image

    from gptexp.tasks.vision.settings import ImagesConfig  # noqa: F401  (registers data=images)

    lines = ["file,caption,split"]
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * (number % 5), 0, 0)).save(own_folder / f"{number}.png")
        lines.append(f"{number}.png,caption {number},{'test' if number == 5 else 'train'}")
    (own_folder / "table.csv").write_text("\n".join(lines))
    words = [
        "task=caption",
        "model=nano",
        "data=images",
        "data.path=table.csv",
        "data.fields.image=file",
        "data.val_fraction=0",
    ]
    result = audit_data(compose_config(words), load_groups())
    assert [(copy.example.split, copy.of.split) for copy in result.copies] == [("train", "test")]
    assert not result.leaks
    with pytest.raises(UserError, match="JSON lines hold no image"):
        write_filtered_copy(result, Path("clean"), ("leaks",))
