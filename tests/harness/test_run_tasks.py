"""Tasks of lm-evaluation-harness: the scores are those of its own model of transformers on the same folder."""

import json
import random
import shutil

import pytest
import torch
from conftest import sentence

from gptexp import evaluate
from gptexp.checkpoints.find_weights import PretrainedFolder
from gptexp.checkpoints.load_model import load
from gptexp.config.schema import BpeConfig
from gptexp.data.chat_format import add_chat_tags, find_chat_format
from gptexp.data.tokenizers import train_bpe
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert
from gptexp.run import run

lm_eval = pytest.importorskip("lm_eval")

from gptexp.harness.harness_model import HarnessModel  # noqa: E402
from gptexp.harness.run_tasks import evaluate_tasks, find_tasks  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet_transformers")

SHAPE = {"layers": 2, "d_model": 32, "heads": 4, "kv_heads": 2, "d_ff": 48, "context": 48}
TASKS = {
    "choose": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "answer": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["ver", "."], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match"}],
    },
    "read": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of random weights as transformers reads it, and the folder of three tasks."""
    path = tmp_path_factory.mktemp("harness")
    rng = random.Random(3)
    texts = [sentence(rng) for _ in range(200)]
    tokenizer = add_chat_tags(train_bpe(BpeConfig(vocab_size=300), texts))
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, **SHAPE))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    (path / "model").mkdir()
    convert.save(model, path / "model")
    tokenizer.save(path / "model" / "tokenizer.json")
    rows = []
    for number in range(12):
        words = sentence(rng, 8 if number else 80).rstrip(".").split()
        rows.append(
            {
                "question": " ".join(words[:-2]) + (" " if number % 3 == 0 else ""),
                "choices": [" ".join(words[-2:]), "stone", "green house", "r"][: 2 + number % 3],
                "label": number % 2,
                "text": sentence(rng, 30 if number % 2 else 5),
            }
        )
    (path / "tasks").mkdir()
    data = path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        source = {"data_files": {"test": str(data)}, "cache_dir": str(path / "cache")}
        common = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": source,
            "test_split": "test",
        }
        (path / "tasks" / f"{name}.yaml").write_text(json.dumps(common | task))
    mistakes = {
        "absent": {"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}},
        "elsewhere": {"dataset_path": "nobody/nothing", "dataset_kwargs": {}},
        "broken": {"output_type": "nothing"},
        "unsafe": {"unsafe_code": True},
        "pictures": {"doc_to_image": ["picture"]},
        "stops": TASKS["answer"] | {"generation_kwargs": {"until": 5}},
        "lengths": TASKS["answer"] | {"generation_kwargs": {"max_gen_toks": "abc"}},
        "aggregated": {"metric_list": [{"metric": "acc", "aggregation": "nope"}]},
        "unsplit": {"test_split": "valid"},
        "columns": {"doc_to_text": "{{nothing}}"},
        "odd": {
            "num_fewshot": 0,
            "doc_to_target": "{{label * 9}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}],
        },
        "empty": {
            "output_type": "loglikelihood",
            "doc_to_target": "",
            "metric_list": [{"metric": "acc"}],
        },
    }
    for name, change in mistakes.items():
        task = common | TASKS["choose"] | {"task": name} | change
        (path / "tasks" / f"{name}.yaml").write_text(json.dumps(task))
    return path


@pytest.mark.parametrize("is_chat", [False, True], ids=["texts", "chats"])
def test_scores_are_those_of_the_harness_itself(folder, is_chat):
    """Each log-probability, each choice and each text is that of the harness's own model of transformers."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load(PretrainedFolder(folder / "model"))
    chat_format = find_chat_format(tokenizer) if is_chat else None
    names = list(TASKS)[: 2 if is_chat else 3]
    ours = evaluate_tasks(
        HarnessModel(model, tokenizer, chat_format), find_tasks(names, folder / "tasks")
    )
    theirs = lm_eval.evaluate(
        HFLM(pretrained=str(folder / "model"), device="cpu", batch_size=4),
        find_tasks(names, folder / "tasks"),
        bootstrap_iters=0,
        apply_chat_template=is_chat,
        fewshot_as_multiturn=True,
    )
    for task in names:
        for mine, other in zip(ours.samples[task], theirs["samples"][task], strict=True):
            assert mine["arguments"] == other["arguments"]
            for (one,), (another,) in zip(mine["resps"], other["resps"], strict=True):
                assert one == (another if task == "answer" else pytest.approx(another, abs=1e-4))
    for score in ours.scores:
        expected = theirs["results"][score.task][f"{score.metric},none"]
        assert score.value == pytest.approx(expected, rel=1e-5)
    texts = {sample["resps"][0][0] for sample in ours.samples["answer"]}
    assert len(texts) > 6
    assert max(map(len, texts)) > 20 > min(map(len, texts))
    assert len(ours.remarks) == 2  # one context and one prompt are too long


def test_a_run_keeps_the_scores_of_each_example(translation, folder, verb):
    path = run(translation("trainer.max_steps=1", "task.test_examples=1")).path
    words = ["--harness", "choose", "--harness-path", folder / "tasks", "--limit", "5"]
    table = verb(evaluate, path, *words, "--num-fewshot", "1")
    lines = (path / "harness" / "choose.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    [results] = json.loads((path / "harness" / "results.json").read_text())["results"]
    assert len(rows) == 5
    mean = sum(row["acc"] for row in rows) / 5
    assert results["metrics"]["harness/choose/acc"] == mean
    assert results["settings"]["num_fewshot"] == 1
    assert results["settings"]["limit"] == 5
    assert rows[0]["arguments"][0][0].count("\n\n") == 1  # an answered example before it
    chance = (1 / 2 + 1 / 3 + 1 / 4 + 1 / 2 + 1 / 3) / 5
    cells = next(line for line in table.splitlines() if " acc " in line).split()
    assert cells == ["choose", "acc", f"{mean:.4g}", cells[3], f"{chance:.4g}", "5"]

    words = ["--harness-path", folder / "tasks", "--harness"]
    for task, limit in (("choose", "3"), ("read", "3"), ("choose", "3")):
        output = verb(evaluate, path, *words, task, "--limit", limit, "--json")
        assert json.loads(output)["settings"]["limit"] == int(limit)  # nothing else is on stdout
    entries = json.loads((path / "harness" / "results.json").read_text())["results"]
    kept = [(entry["task"], entry["settings"]["limit"]) for entry in entries]
    assert kept == [("choose", 5), ("read", 3), ("choose", 3)]  # earlier scores stay
    shutil.rmtree(path / "harness")
    (path / "harness").write_text("")
    code, message = verb(evaluate, path, *words, "choose")
    assert code == 2
    assert "it must be a folder" in message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--harness chooze", "--harness chooze: there is no such task. Near ones: choose"),
        ("--harness no.yaml", "--harness no.yaml: there is no such file"),
        ("--harness choose,", "--harness 'choose,': give names of tasks"),
        ("--harness absent", "Names of files in a task are relative to the current folder"),
        ("--harness elsewhere", "load it once where there is a network"),
        ("--harness broken", "Correct its YAML file"),
        ("--harness unsafe", "--harness unsafe: executes code that the model writes"),
        ("--harness pictures", "--harness pictures: has images or sound in its prompts"),
        ("--harness empty", "example 0 has an empty continuation"),
        ("--harness stops", "generation_kwargs.until=5: must be a text or a list of texts"),
        ("--harness lengths", "max_gen_toks=abc: must be a whole number, at least 1"),
        ("--harness aggregated", "the aggregation of its metric acc is not known"),
        ("--harness unsplit", "its data has no split and no column 'valid'"),
        ("--harness columns", "Its data has no such column"),
        ("--harness choose --num-fewshot 30", "Give a smaller --num-fewshot"),
        ("--harness choose --limit 0", "--limit 0: must be at least 1"),
        ("--harness choose --split val", "--split val: the tasks of --harness"),
        ("--harness choose --wandb", "is no run"),
        ("--limit 3", "--limit: needs --harness TASKS"),
    ],
)
def test_a_mistake_gets_one_message(words, reason, folder, verb, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(folder / "nothing.py"))  # has 15,000
    monkeypatch.setattr(
        "datasets.config.HF_HUB_OFFLINE", True
    )  # which the verb sets before its import
    words = words.replace("--harness ", f"--harness-path {folder / 'tasks'} --harness ")
    code, message = verb(evaluate, folder / "model", *words.split())
    assert code == 2
    assert reason in message.splitlines()[-1]
    assert "Traceback" not in message


def test_remarks_name_tasks_that_are_computed_otherwise(folder, monkeypatch):
    model, tokenizer = load(PretrainedFolder(folder / "model"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    tasks = find_tasks(["odd"], folder / "tasks")
    report = evaluate_tasks(HarnessModel(model, tokenizer), tasks, limit=4, num_fewshot=1)
    assert "2 examples with a target outside of the choices" in " ".join(report.remarks)
    assert "--num-fewshot 1 has no effect on it" in " ".join(report.remarks)
    chance = {score.metric: score.chance for score in report.scores}["acc"]
    assert chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 2) / 4)
