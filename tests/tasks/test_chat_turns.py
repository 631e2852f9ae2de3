import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from conftest import WORDS
from models import a_model

from gptexp import GPT, generate
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import add_lora, as_overrides, build_model, load, open_run
from gptexp.config.schema import ByteConfig
from gptexp.data.chat_format import END, add_chat_tags
from gptexp.data.conversation import Conversation, Message
from gptexp.data.corpora import Example
from gptexp.data.read_conversation import read_conversation
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.model.hf import convert
from gptexp.run import run
from gptexp.tasks.chat import ByKind, ExactAnswer
from gptexp.tasks.chat_turns import ChatTurn, ChatTurns
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.prepare import prepare
from gptexp.tasks.task import means

TOKENIZER = add_chat_tags(build(ByteConfig(), []))
LAYOUT = ChatTurns(context=64, max_new_tokens=16, packing="best_fit")
QUESTION, CALL = "ab " * 4, {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def chat(*texts: str, system: str = "", **more) -> Conversation:
    """A conversation of these texts, the user's first."""
    messages = [Message("system", system)] if system else []
    roles = ("user", "assistant") * len(texts)
    return Conversation((*messages, *map(Message, roles, texts)), **more)


def encode(conversation: Conversation, context: int = 64):
    example = Example({"conversation": conversation.to_json()})
    [encoded] = ChatTurns(context, 16, "best_fit").encode([example], TOKENIZER)
    return encoded, example.left_out


def text_of(tokens) -> str:
    return TOKENIZER.backend.decode(list(tokens), skip_special_tokens=False)


def texts_of_prompt(conversation: Conversation) -> str:
    return text_of(LAYOUT.prompt(ChatTurn(conversation), TOKENIZER).tokens)


def test_the_assistants_messages_and_their_ends_are_learned_and_nothing_else():
    encoded, _ = encode(chat("Hi?", "Yes", "<|end|>?", "No", system="Be short."), 128)
    learned = [t for t, flag in zip(encoded.tokens, encoded.learned, strict=True) if flag]
    assert text_of(learned) == f"Yes{END}No{END}"
    assert encoded.targets == len(learned) == len("YesNo") + 2
    assert text_of(encoded.tokens).count(END) == 6  # a user's is text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a?", "1", QUESTION, "2", "c?" * 20, "3"), ("a?", "1", QUESTION, "2")),
        (("a?" * 40, "1", "b?", "2"), ("b?", "2")),
        (("a?", "1" * 80, "b?", "2", "c?", "3"), ("b?", "2", "c?", "3")),
    ],
)
def test_a_long_conversation_keeps_whole_turns_and_its_system_prompt(texts, expected):
    encoded, reason = encode(chat(*texts, system="Be."))
    kept, _ = encode(chat(*expected, system="Be."))
    assert encoded.tokens == kept.tokens
    assert not reason
    [cut] = encoded.cuts
    whole, _ = encode(chat(*texts, system="Be."), 1000)
    assert cut.tokens == len(whole.tokens) - len(kept.tokens)
    assert cut.setting.startswith("model.context=64")


def test_a_conversation_without_an_answer_that_fits_is_left_out():
    encoded, reason = encode(chat("a?" * 40, "1"))
    assert encoded is None
    assert reason == "none of its questions fits with its answer into model.context=64"


def test_a_history_loses_its_oldest_turns_but_not_its_system_prompt():
    history = chat("first?" * 4, "1", "second?", "2", "third?", system="Be.")
    assert texts_of_prompt(history) == (
        "<|system|>Be.<|end|><|user|>second?<|end|><|assistant|>2<|end|><|user|>third?<|end|><|assistant|>"
    )
    [cut] = LAYOUT.prompt_cuts(ChatTurn(history), TOKENIZER)
    assert (cut.part, cut.tokens) == ("history", len("first?" * 4 + "1") + 4)
    assert ChatTurn(history).outline() == "system: Be.\n...\nuser: third?"
    assert texts_of_prompt(chat("a?", "1" * 90, "b?")) == "<|user|>b?<|end|><|assistant|>"


def test_closed_questions_are_those_of_a_closed_kind_or_with_a_short_answer():
    def example(reference, kind=""):
        return EvalExample(ChatTurn(chat("?"), kind), reference)

    examples = [
        example("It returns a list of all the names.", "returns"),
        example("Sum.", "summary"),
        example("three words here"),
        example("more than five words of an answer"),
    ]
    outputs = [" It returns a list of all the names.", "Sum.", "three words", "none"]
    exact = ExactAnswer().score_each(outputs, examples)["exact"]
    assert [str(value) for value in exact] == ["1.0", "nan", "0.0", "nan"]
    scores = means(ByKind().score_each(outputs, examples))
    assert scores == {"exact_returns": 1.0, "rougeL_summary": pytest.approx(100)}


def test_held_out_answers_follow_the_true_history_and_have_baselines(chats, capsys):
    data = prepare(chats())
    shown = capsys.readouterr().err
    assert "<|assistant|>|[[" in shown
    assert "<|end|>]]" in shown
    task, store = data.task, data.store
    examples = list(task.layout.eval_examples(store, "test", 10))
    conversations = [
        Conversation.from_json(fields["conversation"]) for fields in store.examples("test")
    ]
    for example in examples:
        history = example.input.conversation.messages
        [rest] = {
            c.messages[len(history)].content
            for c in conversations
            if c.messages[: len(history)] == history
        }
        assert rest == example.reference
    assert len({str(example.input) for example in examples}) == 10
    task.prepare_metrics(store, examples)
    baselines = task.baselines(examples)
    nearest = baselines["answer to the most similar question of the training split"]
    # A question names its answer, and so does the training question that is most similar.
    assert nearest == [example.reference for example in examples]
    [frequent] = set(baselines["most frequent answer of the training split"])
    assert frequent in WORDS


def test_a_tool_call_is_scored_as_the_format_writes_it(own_folder, chats):
    path = own_folder / "calls.jsonl"
    answer = Message("assistant", "", tool_calls=(CALL,)).as_json()
    with path.open("w") as file:
        for number in range(30):
            messages = [{"role": "user", "content": f"Call f {number}."}, answer]
            file.write(json.dumps({"messages": messages}) + "\n")
    data = prepare(chats(f"data.path={path}", "model.context=128"), report=False)
    [example] = data.task.layout.eval_examples(data.store, "test", 1)
    call = {"name": "f", "arguments": {"x": 1}}
    assert example.reference == f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


@pytest.fixture
def published(own_folder) -> Path:
    """A model whose tokenizer has no tags."""
    model, path = a_model(vocab_size=260, context=64), own_folder / "published"
    path.mkdir()
    convert.save(model, path)
    build(ByteConfig(), []).save(path / "tokenizer.json")
    return path


def test_new_tags_are_learned_beside_adapters_which_merge(chats, published):
    before, _ = load(find_weights(str(published)))
    shape = as_overrides(before.config, num_tokens=260)
    adapters = ("optim=adamw", "optim.lora_rank=2", "optim.lr=0.01", "trainer.max_steps=2")
    folder = run(chats(*shape, f"init={published}", *adapters))
    merged, tokenizer = load(folder)
    assert (len(before.embedding.weight), len(merged.embedding.weight)) == (260, 265)
    config, _, checkpoint = open_run(folder)
    adapted = build_model(config, tokenizer.vocab_size)
    add_lora(adapted, config.optim)
    checkpoint.load_weights(adapted)
    tokens = torch.tensor([LAYOUT.prompt(ChatTurn(chat("Hi?")), tokenizer).tokens])
    torch.testing.assert_close(merged(tokens), adapted.eval()(tokens))
    frozen = "blocks.0.feed_forward.up.weight"
    assert torch.equal(merged.get_parameter(frozen), before.get_parameter(frozen))
    of_tags = merged.embedding.weight[260:] - before.embedding.weight.mean(dim=0)
    assert of_tags.norm(dim=1).min() > 0


def test_a_model_chats_in_a_terminal_from_a_file_and_from_python(
    chats, verb, monkeypatch, own_folder
):
    folder = run(chats("init=scratch", "trainer.max_steps=2"))
    shown = []
    plain = ChatTurns.prompt
    monkeypatch.setattr(
        ChatTurns,
        "prompt",
        lambda self, turn, tokenizer: shown.append(str(turn)) or plain(self, turn, tokenizer),
    )
    lines = "/rest\n/reset now\n0 the a\n\n/system Be short.\n1 tree\n2 stone\n/reset\n3\\\nbird\n"
    monkeypatch.setattr("sys.stdin", StringIO(lines))
    answers = verb(generate, folder.path, "--chat", "--max-new-tokens", 4).split("\n")
    assert len(answers) == 4
    history = f"system: Be short.\nuser: 1 tree\nassistant: {answers[1]}\nuser: 2 stone"
    assert list(dict.fromkeys(shown)) == [
        "user: 0 the a",
        "system: Be short.\nuser: 1 tree",
        history,
        "system: Be short.\nuser: 3\nbird",
    ]
    messages = [
        dict(zip(("role", "content"), line.split(": ", 1), strict=True))
        for line in history.split("\n")
    ]
    model = GPT.from_pretrained(folder)
    assert model.chat(messages, max_new_tokens=4) == answers[2]
    with pytest.raises(UserError, match="for messages, call chat"):
        model.generate(messages)
    for option, message in (
        ({"max_new_tokens": 0}, "max_new_tokens=0: must be a whole number"),
        ({"temperature": "hot"}, "temperature='hot': must be a number"),
        ({"top_j": 3}, "there is no option top_j"),
    ):
        with pytest.raises(UserError, match=message):
            model.chat("Hi", **option)
    with pytest.warns(UserWarning, match="its history is cut by [0-9]+ tokens"):
        model.chat([*messages[1:3] * 20, messages[-1]], max_new_tokens=4)
    file = own_folder / "messages.json"
    file.write_text(json.dumps({"messages": messages}))
    words = (folder.path, "--messages", file, "--max-new-tokens", 4, "--json")
    output = json.loads(verb(generate, *words))
    assert (output["messages"], output["outputs"]) == (messages, [answers[2]])
    words = (folder.path, "1 tree", "--system", "Be short.", "--max-new-tokens", 4)
    assert verb(generate, *words) == answers[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--chat"], "was trained for pretrain, and has no chat template. Train it to chat: "),
        (["--chat", "--json"], "prints one answer to each; leave out --json"),
        (["--messages", "none.json"], "none.json: No such file or directory"),
        (["Hi", "--messages", "messages.json"], "leave out 'Hi'"),
        (["--messages", "messages.json"], 'messages.json: must be [{"role": "user"'),
    ],
)
def test_mistakes_get_one_message(words, message, published, verb):
    Path("messages.json").write_text("[3]")
    code, error = verb(generate, published, *words)
    assert code == 2
    assert message in error


def test_a_conversation_that_waits_for_no_answer_is_refused():
    answered = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]
    for messages, problem in (
        (answered, "the last message must be the user's, or a tool's"),
        (
            [{"role": "friend", "content": "Hi"}],
            "the role 'friend' is not known; it must be one of system",
        ),
        ([], "must be "),
        (answered[:1] * 2, "two messages of the user follow each other"),
    ):
        with pytest.raises(UserError, match=f"^messages: {problem}"):
            read_conversation(messages)


def test_answers_as_long_as_the_context_are_refused_before_training(chats):
    with pytest.raises(UserError, match=r"task\.max_new_tokens=64 leaves no room for a question"):
        chats("task.max_new_tokens=64").task.check_lengths(64)
