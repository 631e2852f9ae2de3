"""The figures and the model card of base, from a run and a corpus."""

import gzip
import json
import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import sentence
from token_counts import TokenCounts

from gptexp.checkpoints.load_model import load
from gptexp.errors import UserError
from gptexp.model.hf import convert
from gptexp.run import run

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import base
    import base_card

    return base, base_card


@pytest.fixture
def corpus(own_folder):
    """A folder as examples/base writes it."""
    rng, folder = random.Random(0), own_folder / "corpus"
    folder.mkdir()
    for split in ("train-00", "train-01", "val", "test", "unseen"):
        texts = [{"text": " ".join(sentence(rng) for _ in range(9))} for _ in range(9)]
        records = [*texts, {"text": "a question", "answer": "an answer"}]
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))
    package = {"package": "trees", "registry": "pypi", "version": "7.1", "licence": "MIT"}
    manifest = [
        package | {"bytes of text": 2_300_000},
        package | {"package": "rivers", "bytes of text": 0},
    ]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    counts = TokenCounts()
    counts.add("train", "code", {"text": "one line"})
    for _ in range(3):
        counts.add("train", "manual", {"text": "one line"})
    (folder / "summary.json").write_text(json.dumps(counts.summary()))
    return folder


def test_the_card_has_trainings_data_licences_and_figures(
    scripts, corpus, tiny, text_file, own_folder, monkeypatch, capsys
):
    base, base_card = scripts
    shape = ["task=pretrain", "tokenizer.vocab_size=300", "model.context=128", "data=files"]
    shape += [f"data.path={text_file}", "trainer.max_steps=2", "trainer.val_every=1"]
    shape += ["trainer.global_batch_size=2", "task.samples=1", "task.max_new_tokens=1"]
    first = run(tiny(*shape))
    second = run(tiny(*shape, f"init={first.path}", "optim.lr=0.003"))
    model, tokenizer = load(second)
    (weights := own_folder / "weights").mkdir()
    convert.save(model, weights)
    tokenizer.save(weights / "tokenizer.json")
    words = [
        "base.py",
        str(second.path),
        str(first.path),
        "--corpus",
        str(corpus),
        "--json",
        "f.json",
    ]
    monkeypatch.setattr("sys.argv", words)
    capsys.readouterr()
    base.main()
    figures = json.loads(Path("f.json").read_text())
    assert capsys.readouterr().out.startswith("| bits per byte of documents")
    assert set(figures["models"]) == {first.name, second.name}
    assert set(figures["models"][first.name]["copying"]) == {"8", "16", "32", "64"}
    assert figures["baselines"]["test"]["training_tokens"] > 1000
    words = ["base_card.py", str(second.path), "--corpus", str(corpus), "--figures", "f.json"]
    monkeypatch.setattr("sys.argv", [*words, "--to", "weights"])
    base_card.main()
    card = Path("weights/README.md").read_text()
    loss = first.result()["metrics"]["val/loss"]
    for part in (
        " tokens of 1 package, by kind of record",
        " | 75.0% |",
        "| trees | 7.1 | pypi | MIT | 2.3 |",
        f"| pretrain | 2 of 2 | {first.result()['tokens']:,} | 128 |",
        f"{loss:.3f} |",
        "0.003, ",
        "| 1 | ",
        "female over male",
        "favourable over unfavourable",
    ):
        assert part in card
    assert "rivers" not in card


def test_weights_of_the_same_folder_name_are_refused(scripts):
    base, _ = scripts
    base.check_names(["base", "runs/first"])
    with pytest.raises(UserError, match=r"runs/base base: .* two are the same"):
        base.check_names(["runs/base", "base"])


class Copier:
    """A model that expects what followed the newest token before."""

    config = SimpleNamespace(context=20)
    embedding = torch.nn.Embedding(2000, 1)

    def __call__(self, tokens):
        return tokens

    def logits(self, tokens):
        logits = torch.zeros(*tokens.shape, 2000)
        for row, sequence in enumerate(tokens.tolist()):
            for end, token in enumerate(sequence):
                if token in sequence[:end]:
                    logits[row, end, sequence[sequence.index(token) + 1]] = 30.0
        return logits


def test_a_model_that_copies_needs_nothing_for_tokens_that_it_has_read(scripts):
    base, _ = scripts
    tokenizer = SimpleNamespace(eos=0, pad=1, sep=2, mask=3, vocab_size=2000)
    [(length, (first, again))] = base.measure_copying(Copier(), tokenizer).items()
    assert length == "8"
    assert first == pytest.approx(math.log(2000), rel=0.05)
    assert again < 0.5
