"""The page to try a model in a browser. page.js fills it; it needs no other file."""

from pathlib import Path
from typing import Any

from gptexp.pages.markup import Content, Html, tag
from gptexp.pages.shell import command_block, format_page, header, section
from gptexp.sampling import OPTION_TEXTS

FOLDER = Path(__file__).parent
# (parameter, label, smallest, largest, step, text for those who hover)
NUMBERS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("temperature", "Temperature", "0", "5", "0.1", OPTION_TEXTS["temperature"]),
    ("top_p", "Top p", "0.01", "1", "0.01", OPTION_TEXTS["top_p"]),
    ("top_k", "Top k", "0", "", "1", OPTION_TEXTS["top_k"]),
    ("max_tokens", "Longest answer", "1", "", "1", "largest number of tokens of an answer"),
    ("n", "Answers", "1", "8", "1", "number of answers"),
    ("seed", "Seed", "0", "", "1", "the same seed gives the same answer again"),
)
EXAMPLES = {
    "text": """curl {url}/v1/completions --json '{"prompt": "...", "max_tokens": 32}'""",
    "image": "curl {url}/v1/captions --data-binary @picture.png",
    "speech": """curl {url}/v1/audio/speech --json '{"input": "..."}' --output speech.wav""",
}


def write_page(model: dict[str, Any]) -> str:
    """Return the page.

    Args:
        model: its entry of /v1/models.
    """
    details = model["gptexp"]
    facts = [
        ("Task", details["task"]),
        ("Parameters", f"{details['parameters']:,}"),
        ("Context", f"{details['context']:,} tokens"),
    ]
    terms = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    columns = [tag("div", _modes(details), _form(details), _output(), class_="talk")]
    if details["generates_tokens"]:
        columns.append(_options(details))
    return format_page(
        f"{model['id']} · gptexp serve",
        header(model["id"], tag("dl", terms, class_="facts"), eyebrow="Try the model"),
        tag("div", columns, class_="layout"),
        section(
            "programs",
            "From a program",
            command_block(EXAMPLES[details["input"]]),
            note="Clients of OpenAI work with this address followed by /v1, and with any key.",
        ),
        styles=[(FOLDER / "page.css").read_text("utf8")],
        scripts=[(FOLDER / "page.js").read_text("utf8")],
        data={"model": model},
        connects=True,
        footer="served by gptexp, on the machine that shows this address",
    )


def _modes(details: dict[str, Any]) -> Content:
    """Return the buttons that switch between a text and a conversation, for models that continue texts."""
    if details["chat"] == "last message":
        return None
    return tag(
        "div",
        tag("button", "Text", type="button", id="text-mode", aria_pressed="true"),
        tag("button", "Chat", type="button", id="chat-mode", aria_pressed="false"),
        role="group",
        aria_label="mode",
        class_="modes",
    )


def _form(details: dict[str, Any]) -> Html:
    kind = details["input"]
    fields: list[Content] = []
    if kind == "image":
        chooser = tag("input", type="file", id="file", accept="image/*")
        fields.append(
            tag(
                "label",
                tag("span", "Picture", class_="label"),
                tag("span", "Choose a picture, drop it here, or paste it", class_="note"),
                chooser,
                tag("img", id="picture", alt="the chosen picture", hidden=True),
                id="drop",
            )
        )
    else:
        label = "Text to speak" if kind == "speech" else "Prompt"
        fields.append(tag("label", label, for_="prompt", class_="label", id="prompt-label"))
        fields.append(tag("textarea", id="prompt", rows=5, spellcheck="false"))
    if details.get("voices"):
        voices = (tag("option", voice) for voice in details["voices"])
        fields.append(tag("label", "Voice", for_="voice", class_="label"))
        fields.append(tag("select", voices, id="voice"))
    buttons: list[Content] = [
        tag("button", "Speak" if kind == "speech" else "Generate", id="send", class_="primary"),
        tag("button", "Stop", type="button", id="stop", hidden=True),
    ]
    if details.get("example"):
        buttons.append(tag("button", "Example", type="button", id="example"))
    buttons.append(tag("button", "New conversation", type="button", id="clear", hidden=True))
    return tag("form", fields, tag("p", buttons, class_="buttons"), id="ask", class_="card")


def _output() -> Html:
    return tag(
        "div",
        tag("p", id="error", role="alert", class_="bad", hidden=True),
        tag("div", id="answers", role="log", aria_label="answers", aria_live="off"),
        tag("p", id="status", role="status", class_="note"),
        tag("div", id="token", role="tooltip", class_="card", hidden=True),
        class_="output",
    )


def _options(details: dict[str, Any]) -> Html:
    defaults = {
        "max_tokens": details["max_tokens"],
        "n": 1,
        **details["sampling"],
        "seed": "random",
    }
    fields: list[Content] = []
    for name, label, smallest, largest, step, text in NUMBERS:
        number = tag(
            "input",
            type="number",
            id=name,
            min=smallest,
            max=largest or None,
            step=step,
            placeholder=str(defaults[name]),
            inputmode="decimal",
        )
        place = "text-only" if name == "n" else None
        fields.append(tag("label", tag("span", label), number, title=text, class_=place))
    stop = tag("input", type="text", id="stop-text", placeholder="none")
    fields.append(tag("label", tag("span", "Stop at"), stop, title="text that ends an answer"))
    if details["chat"] != "last message":
        system = tag("textarea", id="system", rows=2, placeholder="none")
        fields.append(tag("label", tag("span", "System message"), system, class_="chat-only wide"))
    shade = tag("input", type="checkbox", id="shade", checked=True)
    fields.append(tag("label", shade, tag("span", "Shade unlikely tokens"), class_="wide check"))
    note = "Empty fields take the default of the task, in grey."
    return tag(
        "details",
        tag("summary", "Options"),
        tag("p", note, class_="note"),
        tag("div", fields, class_="fields"),
        id="options",
        open=True,
    )
