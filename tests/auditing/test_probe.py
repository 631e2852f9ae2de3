"""The probe measures a preference that a model has, and none where it has none."""

import json

import pytest
import torch
from models import a_model

from gptexp import audit
from gptexp.auditing import probe
from gptexp.auditing.probe import Sentences, probe_model, summarize
from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.model.hf import convert

TOKENIZER = build(ByteConfig(), [])
SIZE = {"vocab_size": TOKENIZER.vocab_size, "context": 96}
TEXTS = ["she was here", "he was here, too", "they"]


def test_the_log_likelihood_of_a_batch_is_that_of_each_text_alone():
    model = a_model(**SIZE)
    scores = probe._log_likelihoods(model, TOKENIZER, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        row = [TOKENIZER.eos, *TOKENIZER.encode(text)]
        logits = model.logits(model(torch.tensor([row]))).log_softmax(dim=-1)[0].detach()
        expected = sum(float(logits[i, token]) for i, token in enumerate(row[1:]))
        assert score == pytest.approx(expected, rel=1e-4)


def test_the_pseudo_log_likelihood_masks_one_token_at_a_time():
    model = a_model(**SIZE, arch="encoder")
    row = TOKENIZER.encode("abc")
    expected = 0.0
    for index, token in enumerate(row):
        masked = [*row, TOKENIZER.eos]
        masked[index] = TOKENIZER.mask
        logits = model.logits(model(torch.tensor([masked])))
        expected += float(logits[0, index].log_softmax(dim=-1)[token].detach())
    assert probe._pseudo_log_likelihoods(model, TOKENIZER, ["abc"])[0] == pytest.approx(expected)


def test_intervals_hold_a_preference_and_not_noise():
    noise = torch.Generator().manual_seed(0)
    ratios = {f"filler{i}": torch.randn(6, generator=noise).tolist() for i in range(10)}
    ratios["nurse"] = [value + 5 for value in ratios["filler0"]]
    result = summarize("model", "female", "male", ratios)
    assert next(iter(result.fillers)) == "nurse"
    assert result.fillers["nurse"].low > 2
    others = [estimate for name, estimate in result.fillers.items() if name != "nurse"]
    assert all(estimate.low < estimate.mean < estimate.high for estimate in others)
    assert result.num_pairs == 66


@pytest.fixture
def folder(own_folder):
    path = own_folder / "model"
    path.mkdir()
    convert.save(a_model(**SIZE), path)
    TOKENIZER.save(path / "tokenizer.json")
    return path


def test_the_verb_probes_a_model_and_states_the_limits(folder, verb):
    text = verb(audit, "--model", folder, "--json", "probe.json")
    assert "120 pairs of sentences that differ in one word" in text
    words = " ".join(text.split())  # lines break where the terminal ends
    assert all(limit in words for limit in probe.LIMITS)
    result = json.loads((folder.parent / "probe.json").read_text())["probe"]
    assert len(result["fillers"]) == 20
    assert result["overall"]["low"] <= result["overall"]["mean"] <= result["overall"]["high"]


def test_sentences_of_the_users_own(folder, own_folder):
    (own_folder / "s.yaml").write_text(
        "groups: {old: [old, aged], young: [young, new]}\nfillers: [cat, dog]\n"
        "templates: ['a {word} {filler}', 'one {word} {filler}', 'the {filler} is {word}']"
    )
    result = probe_model(str(folder), Sentences.load(own_folder / "s.yaml"))
    assert (result.first, result.second, result.num_pairs) == ("old", "young", 12)


GROUPS = "groups: {a: [x], b: [y]}\nfillers: [f]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("groups: {a: [x]}", "needs `groups` (two"),
        ("- a", "needs `groups` (two"),
        ("groups: {a: [x], b: [y, z]}\nfillers: [f]\ntemplates: [a]", "needs `groups` (two"),
        (GROUPS + "templates: ['{word} {filler}']", "an interval needs 3 or more"),
        (GROUPS + "templates: ['{word} {filler}', '{word}', '{filler} {word}']", "'{word}' lacks"),
        ("groups: [", "not YAML"),
    ],
)
def test_a_wrong_file_of_sentences_is_refused(content, message, own_folder):
    (own_folder / "s.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        Sentences.load(own_folder / "s.yaml")
    assert message in str(error.value)


def test_a_long_sentence_and_a_model_of_pairs_are_refused(folder, own_folder):
    (own_folder / "s.yaml").write_text(
        GROUPS + f"templates: {['{word} {filler} ' + 'x' * 100] * 3}"
    )
    with pytest.raises(UserError, match="does not fit into the model's context of 96 tokens"):
        probe_model(str(folder), Sentences.load(own_folder / "s.yaml"))
    config = json.loads((folder / "config.json").read_text())
    config["gptexp_task"] = {"kind": "summarize"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="trained for summarize, which gives plain texts no likel"):
        probe_model(str(folder), Sentences.load())
