from pathlib import Path

import pytest
from conftest import seconds_without_torch

from gptexp.config import compose
from gptexp.config.grammar import quote
from gptexp.config.hydra_errors import explain_hydra_error
from gptexp.errors import UserError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=smal", "Did you mean 'small'"),
        ("modle=small", "Did you mean 'model'"),
        ("trainer.max_stepz=3", "Did you mean 'trainer.max_steps'"),
        ("max_steps=3", "Did you mean 'trainer.max_steps'"),
        ("optim.lr=fast", "optim.lr=fast: must be a number"),
        ("+x=1", "no key 'x'. Allowed here: model, data"),
        ("++data.packagez=1", "Did you mean 'data.packages'"),
        ("data.src=fr", "this choice of data has no 'src'; it is a key of data=cldr"),
        ("trainer.max_steps=1,2", "several values make a sweep, which needs -m"),
        ("tags=3", "a list is needed"),
        ("trainer.precision=fp8", "Allowed: 32, auto, bf16, float8"),
        ("trainer.compile=yes", "Allowed: auto, false, true"),
        ("trainer.max_steps=0", "at least 1"),
        ("trainer.activation_checkpointing=half", "Allowed: false, full, none, selective, true"),
        (
            "trainer.activation_memory_budget=0.5",
            "0.5: the compiler keeps to it; add trainer.compile",
        ),
        (
            "trainer.activation_memory_budget=0 trainer.compile=true trainer.activation_checkpointing=true",
            "activation_checkpointing=full; give one",
        ),
        ("model.dropout=2", "at most 0.99"),
        ("model.base_width=64 model.position=sinusoidal", "needs model.position=rotary or"),
        ("model.base_width=64 task=nsp", "does not know the additional weights of task=nsp"),
        (
            "model.base_width=64 optim=adamw optim.lora_rank=8 init=base",
            "needs optim=adamw or optim=muon, with optim.lora_rank=0",
        ),
        ("optim.lr=nan", "optim.lr=nan: must be a finite number"),
        (
            "optim=adamw init=base optim.lora_rank=8 optim.lora_targets=[]",
            "name the layers that are adapted",
        ),
        (
            "model.preset=gpt2 optim=adamw init=base optim.lora_rank=8 optim.lora_targets=[gate]",
            "no layer gate that can be adapted",
        ),
        ("experiment=shakespeare data.path=x optim=adamw", "adamw_lr"),
        ("model.heads=3", "multiple of model.heads=3"),
        ("model.experts=4 model.experts_per_token=5", "between 2 and model.experts=4"),
        ("model.experts=4 model.preset=gpt2", "add model.bias=false"),
        (
            "model.experts=4 optim=adamw init=base optim.lora_rank=8 optim.lora_targets=[up,key]",
            "no layer up that can be adapted. Allowed: query, key, value, output",
        ),
        ("model.window=8 model.window_pattern=SX", "S (sliding window) and L"),
        (
            "trainer.devices=3",
            "multiple of trainer.devices x trainer.nodes = 3: use trainer.global_batch_size=18",
        ),
        ("trainer.cpu_offload=true", "is for sharded weights: add trainer.strategy=fsdp"),
        (
            "trainer.cpu_offload=true trainer.strategy=fsdp trainer.accelerator=cpu",
            "trainer.accelerator=cpu uses none; leave out one of them",
        ),
        (
            "trainer.devices=3 trainer.context_parallel=2 task=pretrain",
            "multiple of trainer.tensor_parallel x trainer.context_parallel = 2: use trainer.devices=4",
        ),
        (
            "trainer.devices=3 trainer.nodes=2 trainer.context_parallel=4 task=pretrain",
            "= 4: use trainer.devices=4",
        ),
        ("trainer.devices=6 trainer.context_parallel=2 task=pretrain", "context_parallel) = 3"),
        ("trainer.tensor_parallel=2", "trainer.tensor_parallel=2: needs FSDP2"),
        ("task=chat task.packing=best", "Allowed: best_fit, none"),
        ("trainer.strategy=fsdp trainer.tensor_parallel=3", "model.heads=4 is not a multiple"),
        ("model.experts=4 trainer.strategy=fsdp trainer.tensor_parallel=2", "use model.experts=0"),
        (
            "trainer.cpu_offload=true trainer.strategy=fsdp trainer.tensor_parallel=2",
            "use trainer.cpu_offload=false",
        ),
        ("trainer.context_parallel=2 task=summarize", "task=summarize has sequences of varying"),
        ("trainer.context_parallel=2 task=pretrain model.arch=prefix", "use model.arch=decoder"),
        ("trainer.context_parallel=3 task=pretrain", "model.context=256 must be a multiple of 6"),
        ("data=files", "data.path must be given"),
        ("model.context=a b", "model.context"),
        ("[", "[: is no KEY=VALUE"),
    ],
)
def test_a_mistake_is_answered_with_what_is_allowed(override, said):
    with pytest.raises(UserError) as error:
        compose.compose_config(
            override.split(" ") if "=" in override.split(" ")[-1] else [override]
        )
    assert said in str(error.value)
    assert "base_" not in str(error.value).replace("model.base_", "")  # names of settings classes


def test_values_of_every_kind_can_be_given():
    words = [
        "task=summarize",
        "data=files",
        "data.fields={source:article}",
        "data.fields.target=tldr",
    ]
    for path in ("/a (1)/it's, {x}=[y].jsonl", r"/a\b c\'${d}\ "[:-1]):
        config = compose.compose_config([*words, f"data.path={quote(path)}"])
        assert config.data.path == path
    assert config.data.fields == {"source": "article", "target": "tldr"}
    assert compose.compose_config([*words, "data.path=~/x.jsonl"]).data.path == str(
        Path.home() / "x.jsonl"
    )
    assert (
        compose.compose_config(
            ["optim=adamw", "resume=latest", "optim.lora_rank=8"]
        ).optim.lora_rank
        == 8
    )


def choices_of(words, sweep=None):
    config = compose.compose_config(words, sweep)
    return config.model.size, config.data.kind, config.tokenizer.kind


def test_the_task_picks_model_data_and_tokenizer_and_the_user_overrides():
    assert choices_of(["task=translate"]) == ("nano", "cldr", "char")
    assert choices_of(["task=summarize"]) == ("small", "pydocs", "bpe")
    words = ["data=files", "data.path=[a.en,a.de]", "tokenizer=byte", "model=small"]
    assert choices_of(["task=translate", *words]) == ("small", "files", "byte")
    assert choices_of([*words, "task=translate"]) == ("small", "files", "byte")


def test_the_model_of_an_experiment_and_of_a_sweep_wins_over_that_of_the_task(own_folder):
    assert choices_of(["experiment=shakespeare", "data.path=x"]) == ("nano", "files", "char")
    sweep = own_folder / "sizes.yaml"
    sweep.write_text(
        "defaults: [config, override task: translate, override model: small, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n"
    )
    assert choices_of([], sweep) == ("small", "cldr", "char")
    assert choices_of(["model=nano"], sweep) == ("nano", "cldr", "char")


def test_a_flavour_sets_the_switches_that_are_not_given():
    gpt2 = compose.compose_config(["model.preset=gpt2", "model.tie_embeddings=false"]).model
    assert (gpt2.position, gpt2.norm, gpt2.feed_forward, gpt2.bias, gpt2.tie_embeddings) == (
        "learned",
        "layer",
        "gelu",
        True,
        False,
    )


def test_a_saved_config_loads_as_it_was(tmp_path: Path):
    config = compose.compose_config(["task=translate", "data.tgt=fr", "tags=[a,b]", "optim=adamw"])
    path = tmp_path / "config.yaml"
    compose.save_config(config, path)
    assert compose.load_config(path) == config
    path.write_text(path.read_text().replace("compile: auto", "compile: true"))  # earlier versions
    assert compose.load_config(path).trainer.compile == "true"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--cfg", "job"],
        ["modle=small"],
        ["optim.lr=fast"],
        ["task=translate", "task.max_target_tokens=600"],
        ["-m", "task=translate", "task.max_target_tokens=600", "seed=1,2"],
    ],
)
def test_help_and_errors_come_without_torch_and_at_once(words):
    assert seconds_without_torch(*words) < 2  # 0.4 on an idle machine


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ([], {"lr": 0.02, "adamw_lr": 0.005}),
        (["init=base"], {"lr": 0.002, "adamw_lr": 0.0005}),
        (["task=chat"], {"lr": 0.01, "adamw_lr": 0.0025}),
        (["init=base", "optim.lr=0.01"], {"lr": 0.01, "adamw_lr": 0.0005}),
        (["optim=adamw"], {"lr": 0.001}),
        (["optim=adamw", "init=base", "optim.lora_rank=4"], {"lr": 0.001}),
        (["resume=latest"], {"lr": None, "adamw_lr": None}),
        (["task=nsp"], {"lr": 0.004, "adamw_lr": 0.002}),
        (["task=nsp", "optim.lr=0.01"], {"lr": 0.01, "adamw_lr": 0.002}),
        (["task=nsp", "optim=adamw"], {"lr": 0.001}),
        (["task=bert", "init=gpt2"], {"lr": 0.0004, "adamw_lr": 0.0004}),
    ],
)
def test_rates_that_are_not_given_depend_on_the_task_and_on_what_a_run_starts_from(words, rates):
    optim = compose.compose_config(["task=pretrain", *words]).optim
    assert {name: getattr(optim, name) for name in rates} == pytest.approx(rates)


@pytest.mark.parametrize(
    ("text", "full_key", "message"),
    [
        ("Could not override 'optim.lrr'.", "optim.lrr", "Did you mean 'optim.lr'?"),
        ("Cannot assign int to Dict[str, str]", "", "hydra.sweeper.params: must be settings"),
        ("Additional config directory '/a/no' not found", "", "-cd /a/no: there is no such folder"),
    ],
)
def test_a_mistake_in_a_sweep_file_is_explained(text, full_key, message):
    error = Exception(text)
    error.full_key = full_key
    assert message in str(explain_hydra_error(error, []))
