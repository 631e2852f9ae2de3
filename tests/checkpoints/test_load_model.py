"""Models are loaded from runs and from folders in the layout of transformers."""

import json
from dataclasses import fields

import pytest
import torch
from published import write_llama

from gptexp import GPT, generate
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load, open_folder, resize_token_embeddings
from gptexp.config import schema
from gptexp.config.presets import PRESETS
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.model import TransformerConfig
from gptexp.model.hf.convert import read_model
from gptexp.run import run
from gptexp.tasks.prepare import prepare

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.mark.parametrize("padding", [0, 50])
def test_a_published_model_goes_on_as_in_transformers(padding, own_folder, verb):
    theirs, wrapped = write_llama(own_folder / "llama", padding)
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


def test_more_rows_than_tokens_can_be_trained_but_not_fewer(translation):
    assert (
        len(
            load(run(translation("trainer.max_steps=1", "model.vocab_size=512")))[
                0
            ].embedding.weight
        )
        == 512
    )
    with pytest.raises(UserError, match=r"model\.vocab_size=16: the tokenizer has \d+ tokens"):
        prepare(translation("model.vocab_size=16"), report=False)  # before training is loaded


def test_a_folder_without_a_tokenizer_takes_token_numbers(own_folder, verb):
    theirs, _ = write_llama(own_folder / "llama")
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


def test_an_unreadable_tokenizer_is_not_taken_for_none(own_folder):
    write_llama(own_folder / "llama")
    (own_folder / "llama" / "tokenizer.json").rename(own_folder / "llama" / "tokenizer.model")
    with pytest.raises(
        UserError, match=r"tokenizer\.model.* to a|has its tokenizer as tokenizer\.model"
    ):
        load(find_weights("llama"))


def test_new_rows_are_the_mean_of_the_others(own_folder):
    write_llama(own_folder / "llama", tie_word_embeddings=True)
    small, _, weights = open_folder(find_weights("llama"))
    rows = weights["embedding.weight"].read_all().clone()
    model = read_model(*resize_token_embeddings(small, weights, len(rows) + 2))
    torch.testing.assert_close(
        model.embedding.weight, torch.cat((rows, rows.mean(0).expand(2, -1)))
    )
    assert model.head.weight is model.embedding.weight
    assert model.head(model(torch.tensor([[len(rows) + 1]]))).shape[-1] == len(rows) + 2


def test_a_folder_of_gpt2_without_tokenizer_json_is_read(own_folder):
    _, wrapped = write_llama(own_folder / "old")
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


def test_a_preset_has_the_defaults_of_the_model():
    """ModelConfig has null where the preset decides; TransformerConfig has the values of `modern`."""
    declared = {item.name for item in fields(schema.ModelConfig)}
    defaults = {item.name: item.default for item in fields(TransformerConfig)}
    of_the_task = {
        *("num_sequence_classes", "num_token_classes"),
        *("feature_size", "feature_bins", "predicts_features"),
    }
    assert declared - set(defaults) == {"kind", "size", "preset"}
    assert set(defaults) - declared == of_the_task
    assert {name: defaults[name] for name in PRESETS["modern"]} == PRESETS["modern"]
