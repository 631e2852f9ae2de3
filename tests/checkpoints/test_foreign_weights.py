"""Weights that gptexp does not read are named, and the message says how to convert them."""

import json

import pytest
import torch
from published import write_llama
from safetensors.torch import load_file, save_file

from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder

ADAPTER = json.dumps({"base_model_name_or_path": "some/llama"})


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({"out/ckpt.pt": ""}, "out/ckpt.pt", "a pickled PyTorch checkpoint"),
        ({"epoch=3.ckpt": ""}, "epoch=3.ckpt", "write a folder by model.save_pretrained(FOLDER)"),
        ({"a/x.bin": "", "a/config.json": "{}"}, "a/x.bin", "M, T)]"),
        ({"a/x.Q4.gguf": ""}, "a/x.Q4.gguf", "'a', gguf_file='x.Q4.gguf'"),
        ({"model.safetensors": ""}, "model.safetensors", "without the config.json"),
        (
            {"a/model.safetensors": "", "a/config.json": ""},
            "a/model.safetensors",
            "give the folder",
        ),
        ({"model.zip": ""}, "model.zip", "an archive; unpack it"),
        ({"model": ""}, "model", "is a file, not a folder with a model"),
        ({"a/config.json": "{}", "a/pytorch_model.bin": ""}, "a", "weights as pytorch_model.bin"),
        ({"a/config.json": "{}", "a/tf_model.h5": ""}, "a", "from_tf=True"),
        ({"a/config.json": "{}"}, "a", "has a config.json, but no model.safetensors"),
        ({"a/adapter_config.json": ADAPTER, "a/x.safetensors": ""}, "a", "of PEFT for some/llama"),
        ({"a/model.safetensors": ""}, "a", "but no config.json"),
        ({"a/ckpt.pt": ""}, "a", "has ckpt.pt, but no config.json"),
        ({"a/model_index.json": ""}, "a", "a model of diffusers"),
        ({"a/b/config.json": "", "a/c/config.json": ""}, "a", "a folder of models (b, c)"),
        ({"a/one/config.yaml": ""}, "a", "a folder of runs (one)"),
        (
            {"models--some--llama/snapshots/x": ""},
            "models--some--llama",
            "give the name, some/llama",
        ),
        ({"a/notes.txt": ""}, "a", "is a folder without weights"),
        ({}, "https://huggingface.co/gpt2", "give the name of the model, gpt2"),
        ({}, "huggingface.co/some/llama/tree/main", "give the name of the model, some/llama"),
        ({}, "no/such/folder", "not a run folder"),
        ({}, "x" * 5000, "cannot be read"),
        ({}, " ", "names no weights. Accepted: a run"),
    ],
)
def test_what_a_name_stands_for_is_named(files, name, message, own_folder):
    for file, content in files.items():
        (own_folder / file).parent.mkdir(parents=True, exist_ok=True)
        (own_folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        find_weights(name)
    assert message in str(caught.value)


def test_a_part_of_a_run_leads_to_the_run(tiny, own_folder):
    folder = RunFolder(own_folder / "outputs" / "one")
    folder.create(tiny())
    part = folder.checkpoints / "step-000100" / "model.safetensors"
    part.parent.mkdir(parents=True)
    part.write_text("")
    for path in (part, part.parent, folder.checkpoints):
        with pytest.raises(
            UserError, match=r"is inside a run folder. Give that folder: .*outputs/one"
        ):
            find_weights(str(path))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("model.safetensors", "cut short", "model.safetensors: damaged"),
        ("model.safetensors.index.json", "[]", "model.safetensors.index.json: damaged"),
        ("model.safetensors.index.json", '{"weight_map": {"x": "model-2.safetensors"}}', "model-2"),
        ("generation_config.json", "{", "generation_config.json: is not a JSON object"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: is not a JSON object"),
    ],
)
def test_a_damaged_file_of_a_model_is_named(file, content, message, own_folder):
    write_llama(own_folder / "llama")
    (own_folder / "llama" / file).write_text(content)
    with pytest.raises(UserError) as caught:
        load(find_weights("llama"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "weights that are quantised (gptq)"),
        ({"hidden_size": "x"}, "hidden_size='x' (only whole numbers above 0)"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 (only whole numbers above 0)"),
        ({"eos_token_id": "2"}, "eos_token_id=['2']: must be a token number or a list of them"),
    ],
)
def test_a_config_that_describes_no_model_is_refused_by_the_setting(settings, message, own_folder):
    write_llama(own_folder / "llama")
    (own_folder / "llama" / "generation_config.json").unlink()
    file = own_folder / "llama" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises(UserError) as caught:
        load(find_weights("llama"))
    assert message in str(caught.value)


def test_quantised_weights_are_not_taken_for_others(own_folder):
    write_llama(own_folder / "llama")
    file = own_folder / "llama" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**weights, name: weights[name].to(torch.int8)}, file)
    with pytest.raises(UserError, match=rf"{name} is quantised \(int8\)"):
        load(find_weights("llama"))
