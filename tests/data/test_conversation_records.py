import json

import pytest

from gptexp.config import schema
from gptexp.data.account import DataAccount
from gptexp.data.build_store import split_corpus, usable_examples
from gptexp.data.conversation import Conversation
from gptexp.data.corpora.conversation_records import ConversationReader
from gptexp.data.corpora.files import Files
from gptexp.data.corpora.hub import Hub
from gptexp.errors import UserError

CHAT = ("conversation",)
TURNS = [("user", "Hi"), ("assistant", "Ho")]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def read(record, names=None):
    return ConversationReader(names or {}).example(record, "a.jsonl, line 1")


def read_conversation(record, names=None):
    example = read(record, names)
    assert not example.left_out
    return Conversation.from_json(example.fields["conversation"])


def turns_of(record, names=None):
    messages = read_conversation(record, names).messages
    return [(message.role, message.content) for message in messages]


@pytest.mark.parametrize(
    ("record", "names", "layout"),
    [
        ({"id": 1, "messages": MESSAGES}, {}, "OpenAI messages, messages[].role and .content"),
        ({"conversations": SHAREGPT}, {}, "ShareGPT, conversations[].from and .value"),
        ({"my_chat": SHAREGPT}, {}, "ShareGPT, my_chat[].from and .value"),
        ({"messages": json.dumps(MESSAGES)}, {}, "OpenAI messages, messages[].role and .content"),
        ({"instruction": "Hi", "output": "Ho"}, {}, "Alpaca, instruction and output"),
        ({"instruction": "Hi", "context": "", "response": "Ho"}, {}, "Alpaca, instruction and"),
        ({"prompt": "Hi", "completion": "Ho"}, {}, "pairs, prompt and completion"),
        ({"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, {}, "pairs, prompt and completion"),
        ({"prompt": "Hi", "prompt_id": 3, "messages": MESSAGES}, {}, "OpenAI messages, messages"),
        ({"question": "Hi", "answer": "Ho"}, {}, "pairs, question and answer"),
        ({"chosen": MESSAGES, "rejected": []}, {"conversation": "chosen"}, "OpenAI messages, chos"),
        ({"a": {"b": MESSAGES}}, {"conversation": "a.b"}, "OpenAI messages, a.b[].role"),
        ({"q": "Hi", "a": "Ho"}, {"prompt": "q", "completion": "a"}, "pairs, q and a"),
        (
            {"turns": [{"who": "KUNDE", "says": "Hi"}, {"who": "Firma", "says": "Ho"}]},
            {"role": "who", "content": "says", "user": "Kunde", "assistant": "Firma"},
            "OpenAI messages, turns[].who and .says",
        ),
    ],
)
def test_a_layout_is_recognised_by_its_columns(record, names, layout):
    assert turns_of(record, names) == TURNS
    assert read(record, names).notes[0].startswith(f"as {layout}")


def test_alpaca_has_a_system_prompt_an_input_and_a_history():
    record = {
        "system": "Be brief.",
        "history": [["One?", "1"]],
        "instruction": "Add",
        "input": "1 2",
        "output": 3,
    }
    assert turns_of(record) == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "1"),
        ("user", "Add\n1 2"),
        ("assistant", "3"),
    ]


@pytest.mark.parametrize(
    "calls",
    [
        [{"id": "c", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        [{"id": "c", "function": {"name": "add", "arguments": {"a": 1, "city": None}}}],
        json.dumps([{"id": "c", "name": "add", "arguments": {"a": 1}}]),
    ],
)
def test_tool_calls_get_one_form_without_the_nulls_of_other_tools(calls):
    record = {
        "messages": [
            MESSAGES[0],
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
            MESSAGES[1],
        ],
        "tools": json.dumps([{"name": "add", "parameters": {"a": None, "b": 1}}]),
    }
    conversation = read_conversation(record)
    assert conversation.messages[1].tool_calls == ({**CALL, "id": "c"},)
    assert conversation.messages[2].tool_call_id == "c"
    assert conversation.tools == (
        {"type": "function", "function": {"name": "add", "parameters": {"b": 1}}},
    )


def test_calls_in_a_role_of_their_own_and_in_channels_are_calls():
    sharegpt = [
        SHAREGPT[0],
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "1"},
        SHAREGPT[1],
    ]
    harmony = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "channel": "analysis", "content": "A sum."},
        {
            "role": "assistant",
            "channel": "commentary",
            "recipient": "functions.add",
            "content": '{"a": 1}',
        },
        {"role": "tool", "content": "1"},
        {"role": "assistant", "channel": "analysis", "content": "Done."},
        {"role": "assistant", "channel": "final", "content": "Ho"},
    ]
    for chat, thinking in ((sharegpt, ("", "")), (harmony, ("A sum.", "Done."))):
        _, call, result, answer = read_conversation({"messages": chat}).messages
        assert (call.tool_calls, call.content) == ((CALL,), "")
        assert (result.role, answer.content) == ("tool", "Ho")
        assert (call.thinking, answer.thinking) == thinking


def test_parts_of_a_content_are_joined_and_halves_of_characters_replaced():
    parts = [{"type": "text", "text": "H\ud800"}, {"type": "text", "text": "i"}]
    record = {"messages": [{"role": "user", "content": parts}, MESSAGES[1]]}
    assert turns_of(record)[0] == ("user", "H?\ni")


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("u", "it has no message of the assistant"),
        ("au", "not of the user, but of the assistant"),
        ("uua", "two messages of the user follow each other"),
        ("uaa", "two messages of the assistant follow each other"),
        ("uas", "stands behind other messages"),
        ("uta", "a message of the tool follows one of the user"),
        ("uA", "a message of the assistant is empty"),
        ("Ua", "a message of the user is empty"),
        ("ux", "the role 'x' is not known: name it with data.fields.user=..."),
        ("up", "part of type 'image_url'; only text is read"),
        ("uc", "the arguments of a tool call are no JSON object"),
    ],
)
def test_a_conversation_that_cannot_be_learned_from_is_left_out_with_a_reason(chat, reason):
    image = [{"type": "image_url", "image_url": "a.png"}]
    call = {"function": {"name": "add", "arguments": "[1]"}}
    message = {
        "u": MESSAGES[0],
        "a": MESSAGES[1],
        "s": {"role": "system", "content": "Be brief."},
        "t": {"role": "tool", "content": "1"},
        "A": {"role": "assistant", "content": " "},
        "U": {"role": "user", "content": ""},
        "x": {"role": "x", "content": "Ho"},
        "p": {"role": "assistant", "content": image},
        "c": {"role": "assistant", "content": "", "tool_calls": [call]},
    }
    example = read(
        {"messages": [message[letter] for letter in chat + ("a" if chat == "uas" else "")]}
    )
    assert reason in example.left_out


def test_messages_behind_the_last_answer_are_cut_off_and_noted():
    record = {"messages": [*MESSAGES, {"role": "user", "content": "And?"}]}
    assert turns_of(record) == TURNS
    assert "the messages after the last answer are not used" in read(record).notes


def test_bad_answers_are_left_out():
    assert "bad answer" in read({"prompt": "a", "completion": "b", "label": False}).left_out
    assert not read({"prompt": "a", "completion": "b", "label": True}).left_out


def test_two_layouts_in_one_source_are_refused():
    reader = ConversationReader({})
    reader.example({"messages": MESSAGES}, "a.jsonl, line 1")
    with pytest.raises(UserError, match=r"line 2: is in the layout ShareGPT.*line 1 is in the la"):
        reader.example({"conversations": SHAREGPT}, "a.jsonl, line 2")


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        ({"id": 1, "words": "a"}, "It has: id, words. This task reads a list of messages"),
        ({"chosen": "a", "rejected": "b"}, "These are pairs for task=prefer"),
    ],
)
def test_records_of_no_known_layout_are_refused(record, advice):
    reader = ConversationReader({})
    assert reader.example(record, "a.jsonl, line 1").left_out
    with pytest.raises(UserError, match=r"line 1: no conversation was recognised") as error:
        reader.check_names()
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fields": {"conversatoin": "a"}}, "Did you mean 'conversation'"),
        ({"fields": {"prompt": "{a}\n{b}"}}, "not a template"),
        ({"template": "{a}"}, "data.template={a}: a conversation is read from columns"),
    ],
)
def test_names_that_conversations_do_not_have_are_refused(settings, message, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(UserError, match=message):
        Files(schema.FilesConfig(path=str(tmp_path), **settings), CHAT, tmp_path)


def test_files_and_saved_data_sets_hold_conversations(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"messages": [{"role": "user", "content": f"Hi {i}"}, MESSAGES[1]]} for i in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"messages": []}])))
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    from_file = Files(schema.FilesConfig(path=str(tmp_path / "a.jsonl")), CHAT, tmp_path)
    from_hub = Hub(schema.HubConfig(name=str(tmp_path / "saved")), CHAT, tmp_path)
    account = DataAccount()
    texts = [example.fields for example in usable_examples(from_file, None, account)]
    assert texts == [example.fields for example in from_hub]
    assert list(account.left_out) == ["its columns hold no conversation"]
    assert Conversation.from_json(texts[2]["conversation"]).messages[0].content == "Hi 2"


def test_a_saved_data_set_does_not_mix_the_arguments_of_tools(tmp_path):
    datasets = pytest.importorskip("datasets")
    arguments = [{"a": 1}, {"city": "Ulm"}]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Hi", "tool_calls": None},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "add", "arguments": values}}],
                },
            ]
        }
        for values in arguments
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    corpus = Hub(schema.HubConfig(name=str(tmp_path / "saved")), CHAT, tmp_path)
    calls = [example.messages[-1].tool_calls for example in corpus]
    assert [call["function"]["arguments"] for [call] in calls] == arguments


def read_all(records, names=None):
    """Return the examples of a source."""
    reader = ConversationReader(names or {})
    examples = [reader.example(record, f"line {n}") for n, record in enumerate(records, 1)]
    reader.check_names()
    return examples


def test_named_columns_come_before_a_column_of_messages():
    other = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    record = {"q": "Hi", "a": "Ho", "messages": other}
    assert turns_of(record, {"prompt": "q", "completion": "a"}) == TURNS
    assert turns_of(record, {"instruction": "q", "output": "a"}) == TURNS


def test_a_name_that_no_record_has_is_refused():
    records = [{"prompt": "Hi", "completion": "Ho"}] * 2
    message = r"data.fields.prompt=prompts: no record has this column. Did you mean 'prompt'\?"
    with pytest.raises(UserError, match=message):
        read_all(records, {"prompt": "prompts"})
    with pytest.raises(UserError, match=r"data\.fields\.system=persona: no record has this column"):
        read_all(records, {"system": "persona"})


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}])
def test_a_message_that_is_not_to_be_learned_has_no_weight(mark):
    record = {"messages": [MESSAGES[0], MESSAGES[1] | mark, *MESSAGES]}
    assert [m.weight for m in read_conversation(record).messages] == [1, 0, 1, 1]
    record["messages"][1]["weight"] = 0.5
    assert mark.get("train") is False or "the weight 0.5; 0 and 1 are read" in read(record).left_out


@pytest.mark.parametrize("label", [0, "0", "False", "false"])
def test_a_false_label_may_be_written_in_other_ways(label):
    assert "bad answer" in read({"prompt": "a", "completion": "b", "label": label}).left_out
    assert not read({"prompt": "a", "completion": "b", "label": 1}).left_out


def test_other_columns_of_a_question_are_read_or_named():
    record = {"system_prompt": "Be brief.", "question": "Hi", "answer": "Ho", "context": "A hall."}
    assert turns_of(record | {"why": "It echoes."}) == [
        ("system", "Be brief."),
        ("user", "Hi\nA hall."),
        ("assistant", "Ho"),
    ]
    assert read(record).notes == ("as pairs, question and answer",)
    notes = read(record | {"why": "It echoes."}).notes
    assert notes[1:] == ("the text in the column 'why' is not read",)


def test_indented_json_of_messages_is_recognised():
    text = json.dumps(MESSAGES, indent=1)
    assert turns_of({"messages": text}) == TURNS
    assert turns_of({"prompt": json.dumps(MESSAGES[:1], indent=1), "completion": "Ho"}) == TURNS


def test_a_record_with_an_empty_cell_is_left_out():
    pair = {"prompt": "Hi", "completion": "Ho", "response": "zz"}
    _, left_out = read_all([pair, pair | {"completion": None}])
    assert left_out.left_out == "the column 'completion' is empty"
    chat = {"messages": MESSAGES, "prompt": "Hi", "response": "Ho"}
    _, left_out = read_all([chat, chat | {"messages": []}])
    assert left_out.left_out == "the column 'messages' is empty"


def test_halves_of_characters_are_noted():
    example = read({"messages": [MESSAGES[0] | {"content": "\ud800?"}, MESSAGES[1]]})
    assert example.notes[1:] == ("half of a surrogate pair is read as '?'",)


def test_conversations_that_begin_alike_and_lists_get_messages_in_their_words(tmp_path):
    rows = [{"messages": [*MESSAGES, *MESSAGES, {"role": "user", "content": "a"}]}] * 9
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = schema.FilesConfig(path=str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match="with the same system prompt and first question cannot"):
        split_corpus(Files(config, CHAT, tmp_path), config, DataAccount())
    (tmp_path / "a.jsonl").write_text("[1, 2]\n[3, 4]")
    with pytest.raises(UserError, match=r'Write {"messages": \[{"role": "user"'):
        list(Files(config, CHAT, tmp_path))
