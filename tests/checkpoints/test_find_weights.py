"""Weights are found by the name of a run, a folder, or a model on the hub."""

import time

import pytest
from published import write_llama

from gptexp import evaluate
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder, find_run


@pytest.mark.parametrize(
    "name", ["gpt-4", "gpt-3.5-turbo", "davinci", "text-davinci-003", "openai/gpt-4o"]
)
def test_weights_that_were_never_published_are_refused_at_once(name):
    with pytest.raises(UserError, match=r"never published.*gpt2.*Qwen/Qwen3-0.6B-Base"):
        find_weights(name)


def test_an_unknown_name_is_refused_at_once_without_a_network(verb):
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"not a run folder.*Nor .* \(no network, and not in the local cache\)"
    ):
        find_weights("Qwen/Qwen3-0.6B-Base")
    assert time.monotonic() - start < 5
    code, message = verb(evaluate, "gpt2")
    assert code == 2
    assert "init=gpt2" in message


def test_the_digest_of_a_folder_covers_its_tokenizer_and_its_chat_template(tmp_path):
    write_llama(tmp_path)
    digests = {find_weights(str(tmp_path)).weights_digest()}
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        for text in ("{}", "{ }"):
            (tmp_path / name).write_text(text)
            digests.add(find_weights(str(tmp_path)).weights_digest())
    assert len(digests) == 5


def test_a_model_in_the_local_cache_is_found_without_a_network(own_folder, monkeypatch):
    repository = own_folder / "hub" / "models--some--llama"
    write_llama(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(own_folder / "hub"))
    assert load(find_weights("some/llama"))[1].eos_token == "</s>"


def test_names_of_runs_come_first(tiny, own_folder):
    folder = RunFolder(own_folder / "outputs" / "gpt2")
    folder.create(tiny())
    assert find_weights("latest").path == find_weights("gpt2").path == find_run("latest").path
