"""Runs and published models are exported to folders that transformers loads."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from conftest import same_weights
from published import write_llama

from gptexp import export, generate
from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.checkpoints.load_model import as_overrides, load
from gptexp.config.schema import CharConfig, PretrainConfig
from gptexp.data.tokenizers import Tokenizer, build
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert
from gptexp.run import run

SHAPE = {"layers": 1, "d_model": 16, "heads": 2, "kv_heads": 2, "d_ff": 16, "context": 32}
FAST = ["trainer.max_steps=3", "task.test_examples=3", "task.samples=3"]


pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture
def trained(translation):
    return lambda *words: run(translation(*FAST, *words))


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


def test_an_int8_export_is_read_as_what_transformers_was_compared_with(own_folder, verb):
    write_llama(own_folder / "llama")
    report = json.loads(verb(export, "llama", "small", "--dtype", "int8", "--json"))
    assert report["largest_difference"] < 1e-5
    assert report["same_text"]
    before, small = (load(find_weights(name))[0].state_dict() for name in ("llama", "small"))
    for name, tensor in small.items():
        step = before[name].abs().amax(-1, keepdim=True) / 127
        assert ((tensor - before[name]).abs() <= (step if tensor.ndim == 2 else 0)).all()
    assert "pip install compressed-tensors" in Path("small/README.md").read_text()
    verb(export, "small", "again", "--dtype", "int8")
    files = [Path(name, "model.safetensors").read_bytes() for name in ("again", "small", "llama")]
    assert files[0] == files[1]
    assert len(files[1]) < 0.5 * len(files[2])  # rows of 32 or 48: the scales weigh much


def test_an_int8_export_is_refused_where_transformers_would_not_read_it(own_folder, verb):
    shape = {"position": "learned", "norm": "layer", "feed_forward": "gelu", "qk_norm": False}
    model = Transformer(TransformerConfig(vocab_size=20, **SHAPE, **shape, bias=True))
    convert.save(model, own_folder)
    code, message = verb(export, ".", "out", "--dtype", "int8")
    assert code == 2
    assert "--dtype int8: GPT2LMHeadModel has matrices that transformers does not read" in message


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
    write_llama(own_folder / "llama")
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


def test_the_comparison_takes_no_token_of_a_prompt_for_padding(own_folder):
    """In a small vocabulary random prompts often hold the padding token, from which transformers infers a mask."""
    tokenizer = build(CharConfig(), ["abc"])
    for seed in range(12):
        torch.manual_seed(seed)
        model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, **SHAPE))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        if seed % 2:  # as likely as each other: new rows of an embedding are the mean of the others
            model.embedding.weight.data[4:] = model.embedding.weight.data[4:].mean(0)
        model.eval()
        folder = own_folder / str(seed)
        folder.mkdir()
        export._write_files(folder, model, tokenizer, PretrainConfig(), torch.float32)
        prompts = [[tokenizer.pad, 5, tokenizer.pad], [5, tokenizer.pad, 6], [tokenizer.eos]]
        comparison = export._compare(model, tokenizer, folder, "AutoModelForCausalLM", prompts)
        assert comparison.agrees


def test_several_tokens_that_end_an_answer_survive_an_export(own_folder, verb):
    write_llama(own_folder / "llama")
    (own_folder / "llama" / "generation_config.json").write_text('{"eos_token_id": [1, 270, 9]}')
    verb(export, "llama", "out")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((own_folder / "out" / name).read_text())["eos_token_id"] == [1, 9, 270]
    assert load(find_weights("out"))[1].eos_ids == {1, 9, 270}


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
        match=r"model\.layers=2, not 3.*Settings that fit it: .*model\.layers=2 model\.d_model=32",
    ):
        trained("init=out", "model.layers=3")


def test_an_export_replaces_an_earlier_one(trained, verb):
    one, other = trained(), trained("seed=2")
    assert verb(export, one.path, "out").endswith("out")
    before = load(find_weights("out"))[0]
    assert verb(export, other.path, "out").endswith("out")
    after = load(find_weights("out"))[0]
    assert same_weights(after, load(other)[0])
    assert not same_weights(after, before)


def test_padding_rows_of_a_vocabulary_come_back_on_export(own_folder, verb):
    theirs, _ = write_llama(own_folder / "llama", padding=50)
    verb(export, "llama", "out")
    again = transformers.AutoModelForCausalLM.from_pretrained("out")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_published_model_is_trained_further_and_exported(own_folder, trained, verb):
    write_llama(own_folder / "llama", 50)
    model, tokenizer = load(PretrainedFolder(own_folder / "llama"))
    overrides = as_overrides(model.config, num_tokens=tokenizer.vocab_size)
    assert f"model.vocab_size={len(model.embedding.weight)}" in overrides
    folder = trained(*overrides, "init=llama", "optim=adamw")
    assert folder.config().init_digest
    assert Tokenizer.load(folder.tokenizer).eos_token == "</s>"
    assert json.loads(verb(export, "latest", "out", "--json"))["architecture"] == "LlamaForCausalLM"
    exported = transformers.AutoModelForCausalLM.from_pretrained("out")
    assert exported.generation_config.eos_token_id == 1
    assert exported.generation_config.bos_token_id == 0
    assert transformers.AutoTokenizer.from_pretrained("out").bos_token == "<s>"
    assert len(exported.get_input_embeddings().weight) == len(model.embedding.weight)
    assert load(find_weights("out"))[0].config == load(folder)[0].config
    without_rows = [word for word in overrides if not word.startswith("model.vocab_size")]
    with pytest.raises(
        UserError, match=r"model\.vocab_size=\d+, not None.*Settings that fit it: .*vocab_size="
    ):
        trained(*without_rows, "init=llama")


def test_a_model_without_a_tokenizer_is_exported_without_one(own_folder, verb):
    write_llama(own_folder / "llama")
    for file in (own_folder / "llama").glob("*token*"):
        file.unlink()
    assert "token numbers: not compared" in verb(export, "llama", "out")
    assert not find_weights("out").has_tokenizer
