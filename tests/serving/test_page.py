"""The page in a browser: answers arrive, tokens show their probabilities, and texts stay texts."""

import numpy as np
import pytest
from PIL import Image
from servers import (
    BYTES,
    a_task,
    a_text_model,
    address_of,
    client_of,
    gated_steps,
    running,
    serve_speech,
    serve_text,
)

from gptexp.config import schema
from gptexp.data.chat_format import add_chat_tags
from gptexp.serving.served_model import ServedModel
from gptexp.tasks.vision.settings import CaptionConfig

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server():
    with running(serve_text(example="the example")) as server:
        yield server


@pytest.fixture
def open_server(server, open_page):
    return lambda **options: open_page(address_of(server), **options)


def ask(page, prompt, **options):
    page.fill("#prompt", prompt)
    for name, value in options.items():
        page.fill(f"#{name}", str(value))
    page.click("#send")
    page.locator("#status", has_text="tokens in").wait_for()


def test_an_answer_is_that_of_the_endpoint_and_its_tokens_show_their_probabilities(
    server, open_server
):
    page = open_server()
    ask(page, "Return the", seed=3, max_tokens=12)
    with client_of(server) as client:
        response = client.completions.create(
            model="tiny", prompt="Return the", seed=3, max_tokens=12, logprobs=5
        )
    text, scores = response.choices[0].text, response.choices[0].logprobs
    assert page.locator(".tokens").inner_text() == "Return the" + text
    spans = page.locator("[data-token]")
    assert spans.count() == len(scores.tokens) == 12
    assert "".join(spans.all_text_contents()) == text
    shown = [n for n, part in enumerate(spans.all_text_contents()) if part.strip()]
    spans.nth(shown[1]).hover()
    card = page.locator("#token")
    probability = 100 * np.exp(scores.token_logprobs[shown[1]])
    assert f"probability {probability:.1f} %" in card.inner_text()
    assert page.locator("#token li").count() >= 5
    page.mouse.move(0, 0)
    card.wait_for(state="hidden")
    assert "12 tokens in" in page.locator("#status").inner_text()
    assert "seed 3" in page.locator("#status").inner_text()


def test_arrow_keys_go_through_the_tokens(open_server):
    page = open_server()
    ask(page, "the", seed=3, max_tokens=6)
    page.locator(".tokens").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#token p").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(".current").get_attribute("data-token") != "0"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#token p").inner_text() == first
    assert page.locator("#status").inner_text() == first
    page.keyboard.press("Escape")
    assert page.locator("#token").is_hidden()


def test_a_hostile_prompt_stays_text(open_server):
    page = open_server()
    ask(page, HOSTILE, n=2, max_tokens=4)
    assert page.locator(".tokens .prompt").all_text_contents() == [HOSTILE, HOSTILE]
    assert page.locator(".output img").count() == 0
    page.click("#chat-mode")
    ask(page, HOSTILE)
    assert page.locator(".tokens").first.inner_text() == HOSTILE


def test_a_chat_run_begins_with_a_conversation(open_page):
    model = serve_text(schema.ChatConfig(max_new_tokens=8), add_chat_tags(BYTES))
    with running(model) as server:
        page = open_page(address_of(server))
        ask(page, "the tree")
        assert page.locator(".tokens").count() == 2
        assert page.locator("#clear").is_visible()


def test_a_conversation_goes_on_until_a_new_one_begins(open_server):
    page = open_server()
    page.click("#chat-mode")
    page.fill("#seed", "1")
    page.fill("#system", "Be brief.")
    messages = [{"role": "system", "content": "Be brief."}]
    for text in ("the tree", "the bird"):
        page.fill("#prompt", text)
        with page.expect_request("**/chat/completions") as sent:
            page.press("#prompt", "Enter")
        page.locator("#status", has_text="tokens in").wait_for()
        messages.append({"role": "user", "content": text})
        assert sent.value.post_data_json["messages"] == messages
        answer = page.locator(".tokens").last.text_content()
        messages.append({"role": "assistant", "content": answer})
    assert page.locator(".tokens").all_text_contents() == [m["content"] for m in messages[1:]]
    page.click("#clear")
    assert page.locator(".tokens").count() == 0


def test_mistakes_are_shown_and_an_answer_can_be_stopped(server, open_server):
    page = open_server()
    page.click("#send")
    assert "The prompt is empty" in page.locator("#error").inner_text()
    page.click("#example")
    assert page.input_value("#prompt") == "the example"
    page.fill("#temperature", "-1")
    page.click("#send")
    assert "temperature" in page.locator("#error").inner_text()
    page.fill("#temperature", "0")
    page.fill("#max_tokens", "40")
    page.click("#chat-mode")
    for tokens in (5, 0):
        page.fill("#prompt", "the tree")
        with gated_steps(server) as gate:
            page.click("#send")
            if tokens:
                gate.release(tokens)
                page.locator("[data-token]").nth(2).wait_for(state="attached")
            page.click("#stop")
            page.locator("#status", has_text="stopped").wait_for()
        talk = page.evaluate("conversation.map((message) => message.content)")
        assert talk == page.locator(".tokens").all_text_contents()
        assert len(talk) == 2
    assert page.input_value("#prompt") == "the tree"  # to which nothing was answered
    assert page.locator("#error").is_hidden()
    assert page.locator("#send").is_enabled()


def test_the_page_fits_a_phone_and_follows_the_colour_scheme(open_server):
    backgrounds = set()
    for scheme in ("light", "dark"):
        page = open_server(width=390, color_scheme=scheme)
        ask(page, "the " * 30 + "w" * 200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.locator("[data-token]:visible").last.hover(force=True)  # a line's end has no width
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert len(backgrounds) == 2


def test_a_picture_goes_in_and_speech_comes_out(own_folder, open_page):
    config = CaptionConfig(max_target_tokens=8)
    model = a_text_model(feature_size=config.feature_size, arch="prefix")
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(own_folder / "picture.png")
    with running(ServedModel("tiny", model, BYTES, a_task(config, model))) as server:
        page = open_page(address_of(server))
        page.set_input_files("#file", own_folder / "picture.png")
        page.locator("#picture").wait_for()
        page.click("#send")
        page.locator("#status", has_text="tokens in").wait_for()
        assert page.locator("[data-token]").count() == 8
    with running(serve_speech()) as server:
        page = open_page(address_of(server))
        page.fill("#prompt", "one")
        page.select_option("#voice", "high")
        page.click("#send")
        page.locator("audio").wait_for()
        page.locator("#status", has_text="spoken in").wait_for()
        seconds = page.evaluate(
            "new Promise((done) => { const audio = document.querySelector('audio');"
            " if (audio.duration) done(audio.duration);"
            " audio.addEventListener('loadedmetadata', () => done(audio.duration)); })"
        )
        assert seconds > 0
