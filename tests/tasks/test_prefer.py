import json
import math
import random
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import TINY, TRAIN, WORDS, likeness, text_of
from models import a_model

from gptexp import evaluate
from gptexp.checkpoints.load_model import build_model
from gptexp.config import compose
from gptexp.config.base_weights import FOLDER
from gptexp.config.schema import ByteConfig, ModelConfig, PreferConfig
from gptexp.data.chat_format import END, TaggedChat, add_chat_tags
from gptexp.data.conversation import Conversation, Message, dump_messages
from gptexp.data.corpora import Example
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.generation.prompt import Prompt
from gptexp.loss import PreferenceLoss
from gptexp.model.hf import convert
from gptexp.run import run
from gptexp.tasks.answer_pairs import AnswerPairs
from gptexp.tasks.prefer import Prefer, estimate_divergences
from gptexp.training import sharded_models

TOKENIZER = add_chat_tags(build(ByteConfig(), []))
USER, ANSWER = "user", "assistant"


def encode(prompt, chosen, rejected, context=64):
    fields = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    example = Example({key: dump_messages(messages) for key, messages in fields.items()})
    [encoded] = AnswerPairs(context, 16, PreferenceLoss()).encode([example], TOKENIZER)
    return encoded, example.left_out


def text_of_tokens(tokens):
    return TOKENIZER.backend.decode(list(tokens), skip_special_tokens=False)


def test_a_pair_is_the_prompt_with_its_header_and_both_answers_with_their_ends():
    encoded, _ = encode(
        [Message(USER, "Hi<|end|>")], [Message(ANSWER, "Yes")], [Message(ANSWER, "Oh no")]
    )
    prompt = text_of_tokens(encoded.tokens[: encoded.prefix])
    assert prompt == f"<|user|>Hi<|end|>{END}<|assistant|>"
    assert encoded.tokens.count(TOKENIZER.backend.token_to_id(END)) == 3  # the user's is text
    answers = encoded.tokens[encoded.prefix :]
    chosen, rejected = answers[: encoded.targets], answers[encoded.targets :]
    assert (text_of_tokens(chosen), text_of_tokens(rejected)) == (f"Yes{END}", f"Oh no{END}")


def test_a_prompt_is_written_with_its_tools():
    tool = {"type": "function", "function": {"name": "measure"}}
    prompt = Conversation((Message(USER, "Hi"),), (tool,))
    fields = {"prompt": prompt.to_json()}
    fields |= {key: dump_messages([Message(ANSWER, key)]) for key in ("chosen", "rejected")}
    [encoded] = AnswerPairs(512, 16, PreferenceLoss()).encode([Example(fields)], TOKENIZER)
    rendered = TaggedChat(TOKENIZER).render(prompt, reply=True).tokens
    assert encoded.tokens[: encoded.prefix] == rendered
    assert '"name":"measure"' in text_of_tokens(rendered).replace(" ", "")


def test_a_long_prompt_loses_its_oldest_turns_and_an_answer_is_never_cut():
    old, last = [Message(USER, "x" * 30), Message(ANSWER, "y")], [Message(USER, "z" * 9)]
    chosen, rejected = [Message(ANSWER, "a" * 10)], [Message(ANSWER, "b" * 20)]
    encoded, _ = encode([*old, *last], chosen, rejected)
    prompt = text_of_tokens(encoded.tokens[: encoded.prefix])
    assert prompt == f"<|user|>{'z' * 9}{END}<|assistant|>"
    [cut] = encoded.cuts
    assert (cut.part, cut.tokens) == ("prompt", 35)
    fits = encode(last, chosen, [Message(ANSWER, "b" * 52)], context=64)[0]
    assert len(fits.tokens) - fits.targets == 65
    for bad, reason in [
        (
            [Message(ANSWER, "b" * 53)],
            "the last turn of its prompt do not fit into model.context=64",
        ),
        (chosen, "its answers have the same tokens"),
        ([*chosen, Message(USER, "?"), *chosen], "is not a single message"),
    ]:
        encoded, left_out = encode(last, chosen, bad)
        assert encoded is None
        assert reason in left_out


def test_the_divergence_is_exact_for_one_token_and_zero_for_equal_models():
    model, initial = a_model(), a_model()
    prompts = [Prompt((5, 6, 7)), Prompt((8,))]
    assert estimate_divergences(model, initial, TOKENIZER, prompts, 4) == [0, 0]
    with torch.no_grad():
        initial.norm.weight.mul_(0.5)
        expected = []
        for prompt in prompts:
            tokens = torch.tensor([prompt.tokens])
            p, q = (m.logits(m(tokens)[0, -1]).log_softmax(-1) for m in (model, initial))
            expected.append(float((p.exp() * (p - q)).sum()))
    of_one = estimate_divergences(model, initial, TOKENIZER, prompts, 1)
    assert of_one == pytest.approx(expected, rel=1e-4)
    assert min(estimate_divergences(model, initial, TOKENIZER, prompts, 4)) > min(of_one)
    long = (*range(4, 40), 5, 6, 7)  # the generator reads its last 20 tokens, beside 4 new ones
    prompts = [Prompt(long), Prompt(long[-20:])]
    of_long, of_cut = estimate_divergences(model, initial, TOKENIZER, prompts, 4)
    assert of_long == pytest.approx(of_cut)


@pytest.fixture
def words(own_folder: Path) -> list[str]:
    """A training of seconds on 160 pairs, from a folder with random weights, as words of a command."""
    rng = random.Random(3)
    with Path("pairs.jsonl").open("w") as file:
        for _ in range(160):
            word = rng.choice(WORDS)
            pair = {"prompt": text_of(rng, 4), "chosen": word, "rejected": f"It is {word}"}
            file.write(json.dumps(pair) + "\n")
    shape = [*TINY, "model.context=64", "data=files", "data.path=pairs.jsonl", "task=prefer"]
    torch.manual_seed(0)
    model = build_model(compose.compose_config([*shape, "init=base"]), TOKENIZER.vocab_size)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    start = own_folder / "start"
    start.mkdir()
    convert.save(model, start)
    TOKENIZER.save(start / "tokenizer.json")
    quick = ["trainer.max_steps=6", "trainer.log_every=1", "trainer.checkpoint_every=3"]
    scores = ["task.test_examples=10", "task.max_new_tokens=16"]
    return [*shape, *TRAIN, *quick, *scores, f"init={start}", "optim.lr=0.01"]


def test_a_run_begins_at_the_loss_of_a_coin_and_learns_to_tell_answers_apart(words, verb):
    folder = run(compose.compose_config([*words, "task.score_before=true"]))
    first, *_, last = folder.metrics()
    assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert abs(first["train/chosen_reward"]) + abs(first["train/rejected_reward"]) < 1e-4
    assert last["train/loss"] < first["train/loss"] - 0.05
    metrics = folder.result()["metrics"]
    assert metrics["test/reward_accuracy"] == 1
    assert metrics["test/before/reward_accuracy"] == 0.5
    assert metrics["test/before/kl"] == 0
    assert metrics["test/kl"] > 0
    assert metrics["test/low/reward_margin"] > 0
    assert (metrics["test/chosen_words"], metrics["test/rejected_words"]) == (1, 3)
    assert metrics["test/baseline/reward_accuracy"] == 1  # the shorter answer is the chosen one
    for file in Path("cache/reference").iterdir():
        file.write_bytes(b"damaged")
    output = json.loads(verb(evaluate, folder.path, "--json"))["metrics"]
    shared = {name: value for name, value in metrics.items() if name in output}
    assert len(shared) > 20
    assert {name: output[name] for name in shared} == pytest.approx(shared, abs=1e-5)
    config = Path("start/config.json")
    config.write_text(config.read_text() + "\n")
    output = json.loads(verb(evaluate, folder.path, "--json"))
    assert output["metrics"]["test/reward_margin"] == pytest.approx(metrics["test/reward_margin"])
    assert "test/kl" not in output["metrics"]
    assert any("kl is not shown" in remark for remark in output["remarks"])
    for file in Path("cache/reference").iterdir():
        file.unlink()
    assert "its weights have changed since the run" in verb(evaluate, folder.path)[1]


class FailsAtStep(L.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, *_):
        if module.step == self.step:
            raise RuntimeError("the machine went away")


def test_interrupted_and_without_its_cache_it_ends_as_if_never_interrupted(words):
    words = [*words, "optim.lora_rank=2", "task.sft_weight=0.2"]
    uninterrupted = run(compose.compose_config([*words, "outputs=uninterrupted"]))
    with pytest.raises(RuntimeError, match="went away"):
        run(compose.compose_config(words), callbacks=[FailsAtStep(4)])
    names = [file.name.partition("-")[2] for file in sorted(Path("cache/reference").iterdir())]
    assert names == ["test.npz", "train-1-48.npz", "val.npz"]  # 48 of the 138 training pairs
    for file in Path("cache/reference").iterdir():
        file.unlink()
    assert likeness(run(compose.compose_config(words))) == likeness(uninterrupted)
    longer = [word for word in words if not word.startswith("init=")]
    longer += [f"resume={uninterrupted.path}", "trainer.max_steps=7"]
    continued = run(compose.compose_config(longer))  # compared with the weights of the first start
    margins = [folder.metrics()[-1]["train/reward_margin"] for folder in (uninterrupted, continued)]
    assert margins[1] > 0.8 * margins[0] > 0


def test_a_sharded_model_is_compared_with_sharded_weights(words, monkeypatch, capsys):
    words = [*words, "trainer.max_steps=3"]
    alone = run(compose.compose_config([*words, "outputs=alone", "task.score_before=false"]))
    monkeypatch.setattr(sharded_models, "can_hold_model", lambda *_: False)
    monkeypatch.setattr(sharded_models, "load_run", None)
    shards = run(compose.compose_config([*words, "trainer.strategy=fsdp", "cache=other"]))
    assert (
        "with trainer.strategy=fsdp, the weights are scored after training alone"
        in capsys.readouterr().err
    )
    for one, other in zip(alone.metrics(), shards.metrics(), strict=True):
        for name in ("train/loss", "train/reward_margin", "train/chosen_reward"):
            assert other[name] == pytest.approx(one[name], abs=1e-5)
    assert shards.result()["metrics"] == pytest.approx(alone.result()["metrics"], abs=1e-4)


def test_remarks_say_what_a_reader_of_the_rewards_should_know():
    task = Prefer(PreferConfig(), ModelConfig())
    fallen = {"test/chosen_reward": -0.5, "test/reward_margin": 0.2}
    [remark] = task.remarks(fallen, "test", "", "outputs/chat-nano-1")
    assert "task.sft_weight above 0 keeps the chosen ones likely" in remark
    assert task.remarks({**fallen, "test/reward_margin": -0.2}, "test", "", None) == []
    [remark] = task.remarks({}, "test", "", str(FOLDER))
    assert "base, which has not learned to answer" in remark


def test_mistakes_are_refused(words):
    def refuse(*more):
        with pytest.raises(UserError) as error:
            run(compose.compose_config([*words, *more]))
        return str(error.value)

    assert "name them with init=RUN" in refuse("init=scratch")
    assert "task=prefer needs model.dropout=0" in refuse("model.dropout=0.1")
    assert "task.max_new_tokens=64 leaves no room" in refuse("task.max_new_tokens=64")
