"""Models go out to transformers and come in from it, by folder and by name."""

import json
import logging
import re
import time
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from conftest import same_weights
from tokenizers import models, pre_tokenizers, processors, trainers

from gptexp import GPT, evaluate, export, generate
from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.checkpoints.load_model import as_overrides, load, resize_token_embeddings
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.runs.run_folder import find_run

FAST = ["trainer.max_steps=3", "task.test_examples=3", "task.samples=3"]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small to be divided
    yield
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


@pytest.fixture
def trained(translation):
    return lambda *words: run(translation(*FAST, *words))


@pytest.fixture
def verb(monkeypatch, capsys):
    """Run a verb as a command; return its output, or its exit code and message."""

    def called(module, *words):
        monkeypatch.setattr("sys.argv", [module.__name__, *map(str, words)])
        capsys.readouterr()
        try:
            module.main()
        except SystemExit as error:
            return error.code, capsys.readouterr().err
        return capsys.readouterr().out.rstrip("\n")

    return called


def snippet(folder):
    """Return the code of the model card, to be run from here."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code[1].replace('"."', repr(str(folder)))


@pytest.mark.parametrize(
    ("words", "architecture"),
    [
        ([], "Qwen3ForCausalLM"),
        (["model.qk_norm=false"], "LlamaForCausalLM"),
        (["model.preset=gpt2", "model.arch=encoder_decoder"], "PegasusForConditionalGeneration"),
    ],
)
def test_an_exported_run_answers_the_same_here_and_in_transformers(
    words, architecture, trained, verb, capsys
):
    folder = trained(*words)
    report = json.loads(verb(export, "latest", "there/out", "--json"))
    assert report["architecture"] == architecture
    assert report["largest_difference"] < 1e-5
    assert report["same_text"]
    assert report["same_tokens"]
    source = folder.samples()[0]["input"]
    answer = verb(generate, "there/out", source, "--max-new-tokens", 9)
    assert answer == verb(generate, folder.path, source, "--max-new-tokens", 9)
    card = Path("there/out/README.md").read_text()
    for part in ("library_name: transformers", "pairs.jsonl", "test/exact_match"):
        assert part in card
    exec(snippet(Path("there/out")).replace("The text", source).replace("50", "9"), {})
    assert capsys.readouterr().out.rstrip("\n") == answer


def test_an_exported_encoder_guesses_hidden_tokens_in_transformers(
    tiny, text_file, own_folder, verb, capsys
):
    run(
        tiny(
            "task=bert",
            "model.arch=encoder",
            "model.context=64",
            "data=files",
            f"data.path={text_file}",
            "trainer.progress=false",
            *FAST,
        )
    )
    output = verb(export, "latest", "out")
    assert "EuroBertForMaskedLM" in output
    assert "left out: the head for 2 classes of task=bert" in output
    exec(snippet(own_folder / "out"), {})
    assert capsys.readouterr().out
    assert verb(export, "out", "again").endswith("again")  # an export can be exported


def test_a_folder_of_others_is_left_alone_and_a_disagreement_leaves_nothing(
    trained, verb, monkeypatch, own_folder
):
    folder = trained()
    (full := folder.path.parent / "full").mkdir()
    (full / "mine").write_text("mine")
    code, message = verb(export, "latest", full)
    assert code == 2
    assert f"{full}: has files that gptexp has not exported (mine)" in message
    llama(own_folder / "llama")
    assert "not exported (config.json, " in verb(export, "latest", "llama")[1]
    assert verb(export, "latest", full / "mine")[1].endswith("mine: is a file; name a folder\n")
    before = set(Path().iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(export, "MAX_DIFFERENCE", -1.0)
        code, message = verb(export, "latest", "out")
    assert code == 1
    assert "out is not written" in message
    assert set(Path().iterdir()) == before
    prefix = trained("model.arch=prefix")
    code, message = verb(export, prefix.path, "out")
    assert code == 2
    assert "causal mask gives other logits" in message


def test_a_run_starts_from_an_exported_folder(trained, verb):
    folder = trained()
    verb(export, folder.path, "out")
    still = trained("init=out", "optim=adamw", "optim.lr=0", "trainer.max_steps=1")
    before, after = (load(source) for source in (folder, still))
    assert after[1].fingerprint() == before[1].fingerprint()
    assert all(
        torch.equal(before[0].state_dict()[name], rows)
        for name, rows in after[0].state_dict().items()
    )
    assert still.result()["metrics"]["test/loss"] == pytest.approx(
        folder.result()["metrics"]["test/loss"], abs=1e-6
    )
    with pytest.raises(
        UserError,
        match=r"model\.layers=2, not 3.*All that it needs: .*model\.layers=2 model\.d_model=32",
    ):
        trained("init=out", "model.layers=3")


def llama(folder, padding=0, **settings):
    """Write a model as others publish it: Llama with its scaling, its own special tokens, a padded vocabulary."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        ["the tree and the river"],
        trainers.BpeTrainer(
            vocab_size=270,
            initial_alphabet=alphabet,
            special_tokens=["<s>", "</s>"],
            show_progress=False,
        ),
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>"
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=backend.get_vocab_size() + padding,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            bos_token_id=0,
            eos_token_id=1,
            initializer_range=0.3,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
            **settings,
        )
    )
    model.eval().save_pretrained(folder)
    return model, wrapped


def test_an_export_replaces_an_earlier_one(trained, verb):
    one, other = trained(), trained("seed=2")
    assert verb(export, one.path, "out").endswith("out")
    before = load(find_weights("out"))[0]
    assert verb(export, other.path, "out").endswith("out")
    after = load(find_weights("out"))[0]
    assert same_weights(after, load(other)[0])
    assert not same_weights(after, before)


@pytest.mark.parametrize("padding", [0, 50])
def test_a_published_model_goes_on_as_in_transformers(padding, own_folder, verb):
    theirs, wrapped = llama(own_folder / "llama", padding)
    model, tokenizer = load(find_weights("llama"))
    assert (tokenizer.eos_token, tokenizer.eos, tokenizer.bos_ids) == ("</s>", 1, [0])
    assert tokenizer.vocab_size == len(wrapped) + 3
    rows = theirs.get_output_embeddings().weight
    assert torch.equal(model.head.weight[: len(rows)], rows)
    assert len(model.embedding.weight) == max(len(rows), tokenizer.vocab_size)
    tokens = wrapped("the river", return_tensors="pt").input_ids
    expected = theirs.generate(tokens, max_new_tokens=20, do_sample=False)[0, tokens.shape[1] :]
    output = verb(generate, "llama", "the river", "--max-new-tokens", 20, "--temperature", 0)
    assert output == "the river" + wrapped.decode(expected, skip_special_tokens=True)


def test_padding_rows_of_a_vocabulary_come_back_on_export(own_folder, verb):
    theirs, _ = llama(own_folder / "llama", padding=50)
    verb(export, "llama", "out")
    again = transformers.AutoModelForCausalLM.from_pretrained("out")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_published_model_is_trained_further_and_exported(own_folder, trained, verb):
    llama(own_folder / "llama", 50)
    model, tokenizer = load(PretrainedFolder(own_folder / "llama"))
    overrides = as_overrides(model.config, num_tokens=tokenizer.vocab_size)
    assert f"model.vocab_size={len(model.embedding.weight)}" in overrides
    folder = trained(*overrides, "init=llama", "optim=adamw")
    assert folder.config().init_digest
    assert Tokenizer.load(folder.tokenizer).eos_token == "</s>"
    assert json.loads(verb(export, "latest", "out", "--json"))["architecture"] == "LlamaForCausalLM"
    exported = transformers.AutoModelForCausalLM.from_pretrained("out")
    assert exported.generation_config.eos_token_id == 1
    assert len(exported.get_input_embeddings().weight) == len(model.embedding.weight)
    assert load(find_weights("out"))[0].config == load(folder)[0].config
    without_rows = [word for word in overrides if not word.startswith("model.vocab_size")]
    with pytest.raises(UserError, match=r"model\.vocab_size=\d+, not None.*needs: .*vocab_size="):
        trained(*without_rows, "init=llama")


def test_more_rows_than_tokens_can_be_trained_but_not_fewer(trained):
    assert len(load(trained("model.vocab_size=512"))[0].embedding.weight) == 512
    with pytest.raises(UserError, match=r"model\.vocab_size=16: the tokenizer has \d+ tokens"):
        trained("model.vocab_size=16")


def test_a_folder_without_a_tokenizer_takes_token_numbers(own_folder, verb):
    theirs, _ = llama(own_folder / "llama")
    for file in (own_folder / "llama").glob("*token*"):
        file.unlink()
    tokenizer = load(find_weights("llama"))[1]
    assert (tokenizer.eos, tokenizer.vocab_size) == (1, theirs.config.vocab_size)
    tokens = theirs.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=9, do_sample=False)[0]
    answer = tokens[3:].tolist()
    answer = answer[: answer.index(1)] if 1 in answer else answer
    assert answer
    text = verb(generate, "llama", "5 6 7", "--max-new-tokens", 9, "--temperature", 0)
    assert [int(number) for number in text.split()] == [5, 6, 7, *answer]
    numbers = GPT.from_pretrained("llama").generate([5, 6, 7], max_new_tokens=9)
    assert numbers == [[5, 6, 7, *answer]]
    code, message = verb(generate, "llama", "the river")
    assert code == 2
    assert "has no tokenizer; give token numbers, such as '464 3290'" in message
    assert "token numbers: not compared" in verb(export, "llama", "out")
    assert not PretrainedFolder(Path("out")).has_tokenizer


def test_an_unreadable_tokenizer_is_not_taken_for_none(own_folder):
    llama(own_folder / "llama")
    (own_folder / "llama" / "tokenizer.json").rename(own_folder / "llama" / "tokenizer.model")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer file"):
        load(find_weights("llama"))


def test_new_rows_are_the_mean_of_the_others(own_folder):
    llama(own_folder / "llama", tie_word_embeddings=True)
    model, _ = load(find_weights("llama"))
    rows = model.embedding.weight.clone()
    resize_token_embeddings(model, len(rows) + 2)
    torch.testing.assert_close(
        model.embedding.weight, torch.cat((rows, rows.mean(0).expand(2, -1)))
    )
    assert model.head.weight is model.embedding.weight
    assert model.head(model(torch.tensor([[len(rows) + 1]]))).shape[-1] == len(rows) + 2


def test_a_folder_of_gpt2_without_tokenizer_json_is_read(own_folder):
    _, wrapped = llama(own_folder / "old")
    backend = json.loads((own_folder / "old" / "tokenizer.json").read_text())["model"]
    (own_folder / "old" / "tokenizer.json").unlink()
    (own_folder / "old" / "vocab.json").write_text(json.dumps(backend["vocab"]))
    (own_folder / "old" / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(m) for m in backend["merges"])
    )
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>"}
    (own_folder / "old" / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.load(own_folder / "old" / "tokenizer.json")
    assert (
        tokenizer.encode("the tree") == wrapped("the tree", add_special_tokens=False)["input_ids"]
    )
    assert tokenizer.eos_token == "</s>"


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


def test_a_model_in_the_local_cache_is_found_without_a_network(own_folder, monkeypatch):
    repository = own_folder / "hub" / "models--some--llama"
    llama(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(own_folder / "hub"))
    assert load(find_weights("some/llama"))[1].eos_token == "</s>"


def test_names_of_runs_come_first(trained):
    folder = trained("trainer.max_steps=1")
    assert find_weights("latest").path == find_weights(folder.name).path == find_run("latest").path
