"""Render chat templates written in Jinja, in a sandbox with the functions that transformers gives them.

https://huggingface.co/docs/transformers/chat_templating
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from gptexp.errors import UserError

Span = tuple[int, int]  # of characters in a text
# Noncharacters of Unicode: no text in any message has them, because `TemplateText.protect` removes them.
ANSWER_START, ANSWER_END = "\ufdd2", "\ufdd3"
ANSWER = re.compile(f"{ANSWER_START}(.*?){ANSWER_END}", re.DOTALL)


class InvalidTemplateError(UserError):
    """A chat template is not valid Jinja."""


class GenerationTag(Extension):
    """{% generation %}...{% endgeneration %} puts marks around the tokens that an assistant generates."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it as an attribute of the instance)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, end = (
            nodes.Output([nodes.TemplateData(mark)]).set_lineno(line)
            for mark in (ANSWER_START, ANSWER_END)
        )
        return [start, nodes.Scope(body).set_lineno(line), end]


class PublicNamespace(Namespace):
    """A namespace without names such as __init__, through which a template could leave its sandbox."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *mappings = args  # a template may name a value `self`
        values = dict(*mappings, **values)
        for name in values:
            _check_is_public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_is_public(name)
        super().__setitem__(name, value)


class JinjaTemplate:
    """A compiled chat template.

    Raises:
        InvalidTemplateError: it is not valid Jinja.
    """

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = dump_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["namespace"] = PublicNamespace
        try:
            self._template = environment.from_string(source)
            parsed = environment.parse(source)
        except TemplateError as error:
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise InvalidTemplateError(
                f"the model's chat template is not valid Jinja ({error.message}{line})"
            ) from None
        texts = (node.data for node in parsed.find_all(nodes.TemplateData))
        self.has_generation_tags = ANSWER_START in texts

    def render(
        self, values: dict[str, Any], strftime: Callable[[str], str]
    ) -> tuple[str, list[Span]]:
        """Return the text of a conversation, and the spans inside of its generation tags.

        Args:
            strftime: formats the date that the template asks for.

        Raises:
            Exception: whatever a template runs into that computes with messages it does not expect.
        """
        marked = self._template.render(**values, strftime_now=strftime)
        text, spans = "", []
        position = 0
        for answer in ANSWER.finditer(marked):
            text += marked[position : answer.start()]
            spans.append((len(text), len(text) + len(answer[1])))
            text += answer[1]
            position = answer.end()
        return text + marked[position:], spans


def dump_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as the filter `tojson` of chat templates does: without the escapes for HTML that Jinja adds."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _check_is_public(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"{name!r}: a namespace of a chat template has no names with _ first")
