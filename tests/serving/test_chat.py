"""Conversations: by the template of a model, as a plain text, or their last message alone."""

import base64

import openai
import pytest
from servers import BYTES, client_of, running, serve_text

from gptexp.config import schema
from gptexp.errors import UserError
from gptexp.serving.chat import ChatTemplate, Message, format_plain, read_messages
from gptexp.serving.request_error import RequestError

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}<|sep|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant<|sep|>{% endif %}"
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "the tree"},
    {"role": "assistant", "content": "falls"},
    {"role": "user", "content": "the bird"},
]


def a_template(source: str = TEMPLATE) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<|mask|>"}, BYTES)


def answer(client, messages=TALK, **options):
    options = {"temperature": 0, "max_tokens": 8, **options}
    return client.chat.completions.create(model="tiny", messages=messages, **options)


@pytest.fixture(scope="module")
def server():
    with running(serve_text()) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as client:
        yield client


def test_special_tokens_of_a_template_are_tokens_and_those_of_a_message_are_text():
    text = "x<|sep|>y"
    tokens = a_template().encode([Message("user", text)])
    expected = [
        BYTES.mask,
        *BYTES.encode("user"),
        BYTES.sep,
        *BYTES.encode(f"{text}\n"),
        *BYTES.encode("assistant"),
        BYTES.sep,
    ]
    assert tokens == expected
    assert BYTES.sep not in BYTES.encode(text)


def test_a_template_is_found_beside_the_weights(tmp_path):
    assert ChatTemplate.find(tmp_path, BYTES) is None
    (tmp_path / "tokenizer_config.json").write_text(
        '{"chat_template": "{{ eos_token }}{{ messages[0].content }}", "eos_token": {"content": "<|endoftext|>"}}'
    )
    found = ChatTemplate.find(tmp_path, BYTES)
    assert found.encode([Message("user", "a")]) == [BYTES.eos, *BYTES.encode("a")]
    (tmp_path / "chat_template.jinja").write_text("only")
    assert ChatTemplate.find(tmp_path, BYTES).encode([Message("user", "a")]) == BYTES.encode("only")


def test_a_template_can_refuse_a_conversation_and_reaches_nothing_outside():
    with pytest.raises(RequestError, match=r"the chat template refuses them .*no roles"):
        a_template("{{ raise_exception('no roles') }}").encode([Message("user", "a")])
    with pytest.raises(RequestError, match="the chat template refuses them"):
        a_template("{{ messages.__class__.__mro__ }}").encode([Message("user", "a")])
    with pytest.raises(RequestError, match=r"refuses them \(division by zero\)"):
        a_template("{{ 1 / 0 }}").encode([Message("user", "a")])
    with pytest.raises(UserError, match="not valid Jinja"):
        a_template("{% if %}")


def test_a_model_without_a_template_goes_on_with_the_conversation(client):
    plain = format_plain([Message(row["role"], row["content"]) for row in TALK])
    assert plain.endswith("User: the bird\nAssistant:")
    short = TALK[1:2]
    prompt = format_plain([Message("user", "the tree")])
    completion = client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=8)
    response = answer(client, short)
    [choice] = response.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == completion.choices[0].text.lstrip()
    assert response.usage == completion.usage
    assert client.models.list().data[0].gptexp["chat"] == "plain"


def test_a_template_decides_what_the_model_reads():
    template = a_template()
    with running(serve_text(template=template)) as server, client_of(server) as client:
        tokens = template.encode([Message("user", "the tree")])
        expected = client.completions.create(
            model="tiny", prompt=tokens, temperature=0, max_tokens=8
        )
        response = answer(client, TALK[1:2])
        assert response.choices[0].message.content == expected.choices[0].text
        assert response.usage.prompt_tokens == len(tokens)


def test_a_stream_has_the_same_text_and_scores(client):
    options = {"logprobs": True, "top_logprobs": 2, "temperature": 1, "seed": 4}
    [choice] = answer(client, **options).choices
    events = list(answer(client, stream=True, stream_options={"include_usage": True}, **options))
    deltas = [event.choices[0] for event in events[:-1]]
    assert deltas[0].delta.role == "assistant"
    assert "".join(part.delta.content for part in deltas) == choice.message.content
    scores = [score for part in deltas if part.logprobs for score in part.logprobs.content]
    assert scores == choice.logprobs.content
    assert all(len(score.top_logprobs) == 2 for score in scores)
    text = b"".join(bytes(score.bytes) for score in scores).decode("utf8", "replace")
    assert text.strip() == choice.message.content.strip()
    assert events[-1].usage.completion_tokens == 8
    assert deltas[-1].finish_reason == "length"


def test_a_task_with_one_input_answers_the_last_message():
    config = schema.TranslateConfig(max_target_tokens=10)
    with running(serve_text(config)) as server, client_of(server) as client:
        last, whole = answer(client, TALK[-1:]), answer(client)
        assert last.choices[0].message.content == whole.choices[0].message.content
        assert whole.warnings == ["task=translate reads the last message alone"]
        assert not hasattr(last, "warnings")


def test_a_model_of_texts_answers_no_pictures(client):
    url = "data:image/png;base64," + base64.b64encode(b"x").decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError, match="answers no images; its task is pretrain"):
        answer(client, [{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: must be a list such as"),
        ("hello", "messages: must be a list such as"),
        ([{"role": "tool", "content": "a"}], "role: must be one of system, developer, user"),
        ([{"role": "user", "content": 3}], "content: must be a text, or a list of parts"),
        ([{"role": "user", "content": [{"type": "video"}]}], "of type text or image_url"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}
                    ],
                }
            ],
            "must be a data: URI",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": "data:image/png;base64,é"}],
                }
            ],
            "is not valid base64",
        ),
    ],
)
def test_messages_of_another_form_are_refused(messages, message):
    with pytest.raises(RequestError, match=message):
        read_messages({"messages": messages})
