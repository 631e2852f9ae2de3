"""Pictures, speech and the list of models are served besides text; and who may ask."""

import base64
import io
import json
import urllib.error
import urllib.request

import numpy as np
import openai
import pytest
from PIL import Image
from servers import (
    BYTES,
    a_task,
    a_text_model,
    address_of,
    client_of,
    running,
    serve_speech,
    serve_text,
)

from gptexp.config import schema
from gptexp.serving.served_model import ServedModel
from gptexp.tasks.speech.audio import RATE, Audio
from gptexp.tasks.vision.settings import CaptionConfig


def serve_media(config: schema.TaskConfig, **switches: object) -> ServedModel:
    model = a_text_model(feature_size=config.feature_size, **switches)
    return ServedModel("tiny", model, BYTES, a_task(config, model))


def send(server, path, data=None, **headers):
    """Send a request, and return the status, the body and the headers of the answer."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address_of(server) + path, data, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def message_of(answer):
    return json.loads(answer[1])["error"]["message"]


@pytest.fixture(scope="module")
def server():
    with running(serve_text()) as server:
        yield server


def test_the_model_is_listed(server):
    with client_of(server) as client:
        [model] = client.models.list().data
        assert client.models.retrieve("tiny") == model
        assert (model.id, model.owned_by, model.gptexp["task"]) == ("tiny", "gptexp", "pretrain")
        with pytest.raises(openai.NotFoundError, match="use tiny"):
            client.models.retrieve("other")


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({}, 200, ""),
        ({"Host": "localhost:1"}, 200, ""),
        ({"Host": "[::1]:80"}, 200, ""),
        ({"Host": "[::1"}, 403, "is not a name of this server"),
        ({"Origin": "http://[::1"}, 403, "pages of other sites may not use"),
        ({"Host": "evil.example"}, 403, "start it with --allow-host evil.example"),
        ({"Host": "localhost.evil.example:80"}, 403, "is not a name of this server"),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, 200, ""),
        ({"Origin": "http://evil.example"}, 403, "pages of other sites may not use"),
        ({"Origin": "null"}, 403, "pages of other sites may not use"),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:9000"}, 403, "pages of other"),
    ],
)
def test_pages_of_other_sites_cannot_use_the_server(server, headers, status, message):
    answer = send(server, "/v1/models", **headers)
    assert answer[0] == status
    assert not message or message in message_of(answer)
    assert answer[2]["content-security-policy"] == "frame-ancestors 'none'"
    assert "access-control-allow-origin" not in answer[2]


def test_a_proxy_can_be_allowed():
    with running(serve_text(), hosts=["models.example"]) as server:
        assert send(server, "/v1/models", Host="models.example")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/embeddings", b"{}", 404, "/v1/embeddings: there is no such path. Paths: /v1/models"),
        ("/v1/completions", None, 405, "/v1/completions: does not answer GET"),
        ("/v1/completions", b"{", 400, "the body is not JSON"),
        ("/v1/completions", b"[" * 100_000, 400, "the body is not JSON"),
        ("/v1/completions", b"[]", 400, "the body must be a JSON object"),
        ("/v1/completions", b'{"prompt": "' + b"x" * (1 << 22) + b'"}', 413, "more than 4 MiB"),
        ("/v1/completions", b'{"prompt": "a", "temperature": NaN}', 400, "temperature=nan: must"),
        ("/v1/completions", rb'{"prompt": "\ud800"}', 400, "the body is not JSON"),
        ("/v1/audio/speech", b'{"input": "a", "response_format": ["wav"]}', 400, "must be one of"),
        ("/v1/audio/speech", b'{"input": "a"}', 400, "tiny: does not speak; its task is pretrain"),
        ("/v1/captions", b"x", 400, "tiny: answers no images; its task is pretrain"),
    ],
)
def test_requests_that_cannot_be_answered(server, path, body, status, message):
    answer = send(server, path, body)
    assert answer[0] == status
    assert message in message_of(answer)


def test_a_picture_is_captioned_and_no_file_of_the_server_is_read(own_folder):
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(own_folder / "picture.png")
    data = (own_folder / "picture.png").read_bytes()
    served = serve_media(CaptionConfig(max_target_tokens=8), arch="prefix")
    expected = served.task.answerer.answer(
        served.transformer, BYTES, [served.layout.parse_prompt(io.BytesIO(data), BYTES)]
    )
    with running(served) as server, client_of(server) as client:
        answer = json.loads(send(server, "/v1/captions", data)[1])
        assert [choice["text"] for choice in answer["choices"]] == expected
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}]
        messages = [{"role": "user", "content": content}]
        chat = client.chat.completions.create(model="tiny", messages=messages, logprobs=True)
        assert chat.choices[0].message.content == expected[0]
        assert len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens
        with pytest.raises(openai.BadRequestError, match="send an image to /v1/captions"):
            client.completions.create(model="tiny", prompt=str(own_folder / "picture.png"))
        with pytest.raises(openai.BadRequestError, match="is not an image, or damaged"):
            client.post("/captions", cast_to=object, content=b"no image")


def test_a_text_is_spoken():
    served = serve_speech()
    with running(served) as server, client_of(server) as client:
        assert client.models.list().data[0].gptexp["voices"] == ["low", "high"]
        speak = client.audio.speech.create
        spoken = speak(model="tiny", input="one", voice="high", response_format="wav")
        [expected] = served.task.answerer.answer(
            served.transformer, BYTES, [served.layout.voice_text("one", "high", BYTES)]
        )
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(spoken.content), dtype="int16")
        assert rate == RATE
        assert np.array_equal(samples, Audio(expected.samples).samples)
        for options, message in (
            ({"voice": "alto"}, "voice=alto: not known"),
            ({"voice": "low", "response_format": "mp3"}, "must be one of wav, flac"),
            ({"voice": "low", "speed": 2}, "speed: is not supported"),
        ):
            with pytest.raises(openai.BadRequestError, match=message):
                speak(model="tiny", input="one", **{"response_format": "wav", **options})
        with pytest.raises(openai.BadRequestError, match="send a text to /v1/audio/speech"):
            client.completions.create(model="tiny", prompt="one")


def test_a_task_that_chooses_no_tokens_answers_as_a_whole():
    model = a_text_model(arch="encoder")
    served = ServedModel("tiny", model, BYTES, a_task(schema.MlmConfig(), model))
    [expected] = served.task.answerer.answer(model, BYTES, ["the <|mask|> tree"])
    with running(served) as server, client_of(server) as client:
        ask = client.completions.create
        response = ask(model="tiny", prompt="the <|mask|> tree")
        assert response.choices[0].text == expected
        events = list(ask(model="tiny", prompt="the <|mask|> tree", stream=True))
        assert "".join(event.choices[0].text for event in events) == expected
        with pytest.raises(openai.BadRequestError, match="temperature: has no effect with task="):
            ask(model="tiny", prompt="a", temperature=1)
