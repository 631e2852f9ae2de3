import pytest

from gptexp.config.schema import FilesConfig
from gptexp.data.conversation import Conversation, parse_messages
from gptexp.data.corpora.preference_records import PreferenceReader
from gptexp.data.corpora.record_readers import check_names_of_fields
from gptexp.errors import UserError

HI = {"role": "user", "content": "Hi"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Ho", "Hm"))
SYSTEM = {"role": "system", "content": "Be brief."}


def read(record, names=None):
    return PreferenceReader(names or {}).example(record, "a.jsonl, line 1")


def contents(example):
    assert not example.left_out
    return [
        [message.content for message in parse_messages(text)] for text in example.fields.values()
    ]


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "Hm"}, {}),
        ({"prompt": [HI], "chosen": [GOOD], "rejected": [BAD]}, {}),
        ({"chosen": [HI, GOOD], "rejected": [HI, BAD]}, {}),
        ({"prompt": "Hi", "chosen": [HI, GOOD], "rejected": [HI, BAD]}, {}),
        ({"question": "Hi", "chosen": "Ho", "rejected": "Hm"}, {}),
        ({"instruction": "Hi", "input": "", "chosen": "Ho", "rejected": "Hm"}, {}),
        ({"q": "Hi", "a": "Ho", "b": "Hm"}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
        (
            {
                "conversations": [{"from": "human", "value": "Hi"}],
                "chosen": {"from": "gpt", "value": "Ho"},
                "rejected": {"from": "gpt", "value": "Hm"},
            },
            {},
        ),
        (
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Ho",
                "rejected": "\n\nHuman: Hi\n\nAssistant: Hm",
            },
            {},
        ),
    ],
)
def test_a_pair_is_a_prompt_and_two_answers_in_every_layout(record, names):
    example = read(record, names)
    assert contents(example) == [["Hi"], ["Ho"], ["Hm"]]
    assert list(example.fields) == ["prompt", "chosen", "rejected"]
    assert example.group_key == "Hi"


def test_the_prompt_is_all_that_both_conversations_begin_with():
    more = {"role": "user", "content": "And?"}
    start = [SYSTEM, HI, GOOD, more]
    example = read({"chosen": [*start, GOOD], "rejected": [*start, BAD]})
    assert contents(example) == [["Be brief.", "Hi", "Ho", "And?"], ["Ho"], ["Hm"]]
    record = {"system": "Be brief.", "prompt": "Hi", "chosen": "Ho", "rejected": "Hm"}
    assert contents(read(record))[0] == ["Be brief.", "Hi"]
    record = {"system": "Be brief.", "chosen": [HI, GOOD], "rejected": [HI, BAD]}
    assert contents(read(record))[0] == ["Be brief.", "Hi"]
    record = {"prompt": [SYSTEM, HI], "chosen": [HI, GOOD], "rejected": [HI, BAD]}
    assert contents(read(record))[0] == ["Be brief.", "Hi"]
    record = {"prompt": "Hi", "history": [["Hm", "Ho"]], "chosen": "Ha", "rejected": "Ho"}
    assert contents(read(record))[0] == ["Hm", "Ho", "Hi"]
    record = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Ho", "rejected": "Hm"}
    assert contents(read(record))[0] == ["Hi"]


def test_tools_stay_with_the_prompt_and_its_record():
    tool = {"type": "function", "function": {"name": "measure"}}
    record = {"prompt": [HI], "chosen": [GOOD], "rejected": [BAD], "tools": [tool]}
    example = read(record)
    assert contents(example) == [["Hi"], ["Ho"], ["Hm"]]
    assert Conversation.from_json(example.fields["prompt"]).tools == (tool,)
    assert example.texts == ["Hi", "Ho", "Hm"]
    assert example.record == record


def test_a_record_with_an_empty_cell_stops_no_data_set():
    whole = {"chosen": [HI, GOOD], "rejected": [HI, BAD]}
    texts = {"chosen": "Ho", "rejected": "Hm"}
    for answers, usable in ((whole, [True, True, True]), (texts, [False, True, False])):
        reader = PreferenceReader({})
        records = ({"prompt": prompt, **answers} for prompt in (None, "Hi", None))
        examples = [reader.example(record, "a.jsonl") for record in records]
        assert [not example.left_out for example in examples] == usable
        reader.check_names()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "Ho"}, "answer are the same"),
        ({"prompt": "Hi", "chosen": "", "rejected": "Ho"}, "'chosen' is empty"),
        ({"prompt": "Hi", "chosen": " ", "rejected": "Ho"}, "a message of the assistant is empty"),
        ({"prompt": "", "chosen": "Ho", "rejected": "Hm"}, "a message of the user is empty"),
        ({"chosen": "Ho", "rejected": "Hm"}, "its columns hold no pair of answers with a prompt"),
        ({"chosen": [HI, GOOD], "rejected": [HI, BAD, HI]}, "does not end with a message of the"),
        ({"chosen": [HI, GOOD], "rejected": [SYSTEM, HI, BAD]}, "it has no prompt"),
        (
            {
                "prompt": "Hi",
                "chosen": "Ho",
                "rejected": "Hm",
                "score_chosen": 1,
                "score_rejected": 2.5,
            },
            "its scores do not prefer the chosen answer",
        ),
        (
            {
                "prompt": "Hi",
                "chosen": "Ho",
                "rejected": "Hm",
                "score_chosen": "9.5",  # of a CSV file
                "score_rejected": " 10",
            },
            "its scores do not prefer the chosen answer",
        ),
        (
            {"prompt": "Ha", "chosen": [HI, GOOD], "rejected": [HI, BAD]},
            "its prompt or system prompt is another one than that of its chosen conversation",
        ),
        (
            {"system": "Be long.", "chosen": [SYSTEM, HI, GOOD], "rejected": [SYSTEM, HI, BAD]},
            "its prompt or system prompt is another one",
        ),
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "Hm", "tools": "f"}, "'f' is not JSON"),
    ],
)
def test_pairs_that_cannot_be_learned_from_are_left_out_with_a_reason(record, reason):
    assert reason in read(record).left_out


def test_records_without_answers_are_refused():
    reader = PreferenceReader({})
    reader.example({"prompt": "Hi", "completion": "Ho"}, "a.jsonl, line 1")
    with pytest.raises(UserError, match="no pair of answers with a prompt was recognised") as error:
        reader.check_names()
    assert "It has: prompt, completion. This task reads 'chosen' and 'rejected'" in str(error.value)


def test_a_template_is_refused_with_the_fields_of_pairs():
    with pytest.raises(
        UserError, match=r"prompt=\.\.\. data\.fields\.chosen=\.\.\. data\.fields\.rej"
    ):
        check_names_of_fields(FilesConfig(path="a.jsonl", template="{a}"), PreferenceReader.fields)
