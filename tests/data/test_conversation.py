import dataclasses
import json

import pytest

from gptexp.data.conversation import Conversation, Message, dump_messages, parse_messages
from gptexp.data.corpora import Example

CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}, "id": "c1"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CONVERSATION = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "How much is 1 + 2? <|end|> é"),
        Message("assistant", "", thinking="A sum.", tool_calls=(CALL,)),
        Message("tool", "3", tool_call_id="c1", name="add"),
        Message("assistant", "3", kind="number"),
    ),
    (TOOL,),
)


def test_a_conversation_has_one_json_which_leaves_out_what_is_empty():
    text = CONVERSATION.to_json()
    assert Conversation.from_json(text) == CONVERSATION
    assert Conversation.from_json(text).to_json() == text
    assert "<|end|> é" in text
    assert text.startswith('{"messages":[{"role":"system","content":"Be brief."},{"role":"user",')
    values = json.loads(text)
    assert list(values["messages"][2]) == ["role", "content", "thinking", "tool_calls"]
    assert "tools" not in json.loads(dataclasses.replace(CONVERSATION, tools=()).to_json())


def test_a_list_of_messages_has_a_json_too():
    messages = CONVERSATION.messages[1:3]
    assert parse_messages(dump_messages(messages)) == messages


def test_templates_get_arguments_as_mappings_and_no_kinds():
    dicts = CONVERSATION.to_dicts()
    assert dicts[2]["tool_calls"] == [CALL]
    assert dicts[2]["thinking"] == dicts[2]["reasoning_content"] == "A sum."
    assert dicts[4] == {"role": "assistant", "content": "3"}


@pytest.mark.parametrize(
    ("change", "same"),
    [((4, "four"), True), ((1, "Another question?"), False), ((0, "Be long."), False)],
)
def test_conversations_are_grouped_by_system_prompt_and_first_question(change, same):
    place, content = change
    messages = list(CONVERSATION.messages)
    messages[place] = dataclasses.replace(messages[place], content=content)
    other = Example({"conversation": Conversation(tuple(messages)).to_json()})
    example = Example({"conversation": CONVERSATION.to_json()})
    assert (other.group_key == example.group_key) == same


def test_the_texts_of_an_example_are_those_that_its_messages_say():
    example = Example({"conversation": CONVERSATION.to_json()})
    assert example.texts == [
        "Be brief.",
        "How much is 1 + 2? <|end|> é",
        'A sum.\n{"name":"add","arguments":{"b":2,"a":1}}',
        "3",
        "3",
    ]
    prompt, chosen, rejected = (
        dump_messages([Message(*m)])
        for m in (("user", "Hi"), ("assistant", "a"), ("assistant", "b"))
    )
    pair = Example({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    assert pair.texts == ["Hi", "a", "b"]
    assert pair.group_key == "Hi"
    assert Example({"source": "a", "target": "b"}).texts == ["a", "b"]
