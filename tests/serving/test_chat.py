"""Conversations: by the template of a model, as a plain text, or their last message alone."""

import base64
import json

import openai
import pytest
from servers import BYTES, client_of, running, serve_text

from gptexp.config import schema
from gptexp.data.chat_format import add_chat_tags, find_chat_format
from gptexp.data.conversation import Conversation, Message
from gptexp.data.tokenizers import Tokenizer
from gptexp.serving.chat import RequestMessage, format_plain, read_messages
from gptexp.serving.questions import ask_chat
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


TOOL = {"type": "function", "function": {"name": "measure"}}


def with_template(source: str = TEMPLATE) -> Tokenizer:
    return BYTES.with_chat_template(source, ())


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
    tokenizer = with_template()
    conversation = Conversation((Message("user", "the <|sep|> tree"),))
    tokens = find_chat_format(tokenizer).render(conversation, reply=True).tokens
    assert tokens.count(BYTES.sep) == 2
    with running(serve_text(tokenizer=tokenizer)) as server, client_of(server) as client:
        expected = client.completions.create(
            model="tiny", prompt=tokens, temperature=0, max_tokens=8
        )
        response = answer(client, conversation.to_dicts())
        assert response.choices[0].message.content == expected.choices[0].text
        assert response.usage.prompt_tokens == len(tokens)
        assert client.models.list().data[0].gptexp["chat"] == "template"


def test_a_chat_run_answers_as_it_was_trained_and_forgets_the_oldest_turns():
    tokenizer = add_chat_tags(BYTES)
    chat = find_chat_format(tokenizer)
    question, first = Message("user", "sea?"), Message("assistant", "yes")
    old = [Message("user", "river " * 10), first]
    with (
        running(serve_text(schema.ChatConfig(max_new_tokens=24), tokenizer)) as server,
        client_of(server) as client,
    ):
        response = answer(client, Conversation((*old, question)).to_dicts())
        tokens = chat.render(Conversation((question,)), reply=True).tokens
        assert response.usage.prompt_tokens == len(tokens)
        assert "its history is cut by" in response.warnings[0]
        text = client.completions.create(model="tiny", prompt="sea?", temperature=0, max_tokens=8)
        assert text.choices[0].text == response.choices[0].message.content
        assert client.models.list().data[0].gptexp["chat"] == "template"


def test_a_template_reads_tools_and_their_calls():
    source = (
        "{{ tools | tojson }}{% for message in messages %}{% for call in message.tool_calls or [] %}"
        "{{ call.function.arguments.name }}{% endfor %}{{ message.content }}{% endfor %}"
    )
    function = {"name": "measure", "arguments": '{"name": "Rhine"}'}
    messages = [
        {"role": "user", "content": "How long?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]},
        {"role": "tool", "content": "1233", "tool_call_id": "1"},
    ]
    text = f"{json.dumps([TOOL])}How long?Rhine1233"
    with (
        running(serve_text(tokenizer=with_template(source))) as server,
        client_of(server) as client,
    ):
        response = answer(client, messages, tools=[TOOL], max_tokens=1)
        assert response.usage.prompt_tokens == len(text)
        with pytest.raises(openai.BadRequestError, match="tools: a tool has no name"):
            answer(client, messages, tools=[{"type": "function"}])
        function["arguments"] = "Rhine"
        with pytest.raises(
            openai.BadRequestError, match=r"messages\[1\].tool_calls: .* is not JSON"
        ):
            answer(client, messages)


def test_a_template_can_refuse_a_conversation():
    tokenizer = with_template("{{ raise_exception('no roles') }}")
    conversation = [RequestMessage("user", "a")]
    with pytest.raises(RequestError, match=r"template refuses the conversation .*no roles"):
        ask_chat(serve_text(tokenizer=tokenizer), conversation, (), None)


def test_tools_need_a_template(client):
    with pytest.raises(openai.BadRequestError, match="tools: tiny has no chat template"):
        answer(client, tools=[TOOL])


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
        ([{"role": "bot", "content": "a"}], "role: must be one of system, developer, user"),
        ([{"role": "assistant"}], "content: must be a text, or a list of parts"),
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
