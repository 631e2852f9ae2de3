"""Turn the markup of a docstring into plain text: no doctests, code, references, roles, backticks and line breaks."""

import re
from collections.abc import Iterator

_UNDERLINE = re.compile(r"([=\-~^*+#\"'`])\1{2,}")
_DIRECTIVE = re.compile(r"\.\. ?([\w-]+):: *(.*)")
# Their text belongs to the prose; the block of another directive is code, a picture or a formula.
_PROSE_DIRECTIVES = frozenset(
    {"attention", "caution", "hint", "important", "note", "tip", "warning"}
)
_SKIPPED_SECTIONS = frozenset({"references", "reference", "see also"})
_SKIPPED_HEADINGS = frozenset({"example", "examples", "example usage", "usage"})
_INLINE = (
    (re.compile(r" ?\[[\w*-]+\]_"), ""),  # a footnote
    (re.compile(r":[a-z][\w:+.-]*:(?=`)"), ""),  # the role of a name
    (re.compile(r"\[([^\[\]\n]+)\]\([^()\s]*\)"), r"\1"),  # a link of Markdown
    (re.compile(r"\[(`[^`\n]*`)\]"), r"\1"),  # the same without its address
    (re.compile(r"`([^`<>]*\S)\s*<[^<>`]*>`"), r"`\1`"),  # the address of a link
    (re.compile(r"(?<!\w)`(\w[^`'\s]*)'"), r"\1"),  # the quotation marks of old texts
    (re.compile(r"(?<=`)[~!]\.?"), ""),
    (re.compile(r"`+_{0,2}"), ""),
    (re.compile(r"(?<![\w*])(\*{1,2})(\w[^*\n]*)(?<! )\1(?![\w*])"), r"\2"),  # emphasis
    (re.compile(r" ?https?://[^\s<>)\]]+"), ""),
)


def plain_text(docstring: str) -> str:
    """Return the paragraphs of a docstring without their markup, each in one line."""
    paragraphs: list[list[str]] = [[]]
    for line in _prose_lines(docstring.splitlines()):
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    text = "\n".join(" ".join(lines) for lines in paragraphs if lines)
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text


def _prose_lines(lines: list[str]) -> Iterator[str]:
    """Yield the lines that are neither code nor references, without their indentation; "" between paragraphs."""
    block_indent = -1  # deeper lines belong to a block that is left out
    in_session = in_fence = in_section = False
    for number, line in enumerate(lines):
        text = " ".join(line.split())
        if text.startswith("```"):
            in_fence = not in_fence
            continue
        if in_fence:
            continue
        in_session = text.startswith(">>>") or (in_session and bool(text))
        if in_session or not text or _UNDERLINE.fullmatch(text):
            yield ""
            continue
        indent = len(line) - len(line.lstrip())
        if 0 <= block_indent < indent:
            continue
        block_indent = -1
        title = text.rstrip(":").lower()
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if _UNDERLINE.fullmatch(following):
            in_section = title in _SKIPPED_SECTIONS
        if in_section:
            continue
        directive = _DIRECTIVE.fullmatch(text)
        is_section = title in _SKIPPED_SECTIONS and text.endswith(":")
        if directive and directive[1] in _PROSE_DIRECTIVES:
            text = directive[2]
        elif directive or is_section or text.startswith(".. "):
            block_indent = indent
            continue
        elif text.endswith("::"):  # a literal block follows
            block_indent, text = indent, text[:-1]
        if title not in _SKIPPED_HEADINGS:
            yield text
