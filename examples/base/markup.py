"""Turn the markup of manuals into sections of prose: HTML, XML, man pages, POD, reST and plain text.

Each reader returns the sections of one page in order. Code, tables, menus and lists of links are no prose.
"""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

# Words that any English sentence has; a paragraph of names, numbers or another language has few.
_FUNCTION_WORDS = """
    a all also an and any are as at be been but by can do does each for from has have if in is it its may more must no
    not of on one only or other set should so such than that the their then there these they this to two use used was
    we when where which will with you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
MIN_WORDS = 8  # of a paragraph
MIN_LETTERS = 0.72  # of its characters, blanks aside
MIN_FUNCTION_WORDS = 0.15
MAX_TITLE = 80  # characters


class Section(NamedTuple):
    title: str  # "": text before the first heading
    paragraphs: list[str]


def is_prose(paragraph: str) -> bool:
    """Return whether a paragraph is English prose and not code, a table, a list of names or another language."""
    words = paragraph.split()
    if len(words) < MIN_WORDS:
        return False
    letters = sum(map(str.isalpha, paragraph)) / sum(map(len, words))
    known = sum(word.strip("(),.;:\"'").lower() in FUNCTION_WORDS for word in words)
    return letters >= MIN_LETTERS and known >= MIN_FUNCTION_WORDS * len(words)


def _sections(parts: Iterator[tuple[bool, str]]) -> list[Section]:
    """Group (is heading, text) parts into sections with paragraphs of prose."""
    sections = [Section("", [])]
    for is_heading, text in parts:
        line = " ".join(text.split())
        if is_heading:
            sections.append(Section(line.strip("¶# ") if len(line) <= MAX_TITLE else "", []))
        elif is_prose(line):
            sections[-1].paragraphs.append(line)
    return [section for section in sections if section.paragraphs]


_DROPPED = re.compile(
    r"<(script|style|pre|nav|head|header|footer|svg|math|form|button)\b.*?</\1\s*>|<!--.*?-->",
    re.S | re.I,
)
_HEADING = re.compile(r"<h[1-6]\b[^>]*>(.*?)</h[1-6]\s*>", re.S | re.I)
_BLOCK = re.compile(
    r"</?(?:p|div|section|article|main|aside|ul|ol|li|dl|dt|dd|table|tr|td|th|thead|tbody|blockquote|br|hr|body|html"
    r"|figure|figcaption|caption|para|simpara|title|sect\d|item|note|listitem|varlistentry|term|tbody|page|paragraph"
    r"|list_item|center|address|pre)\b[^>]*>",
    re.I,
)
_TAG = re.compile(r"<[^>]*>")
_HEADING_MARK, _BLOCK_MARK = "\x01", "\x02"


def read_html(page: str) -> list[Section]:
    """Return the sections of an HTML page; headings are h1 to h6."""
    page = _DROPPED.sub(_BLOCK_MARK, page)
    page = _HEADING.sub(rf"{_BLOCK_MARK}{_HEADING_MARK}\1{_BLOCK_MARK}", page)
    return _sections(_blocks(page))


def read_xml(page: str) -> list[Section]:
    """Return the sections of a DocBook, Mallard or LibreOffice help page; headings are titles."""
    page = re.sub(
        r"<(screen|programlisting|code|bookmark)\b.*?</\1\s*>", _keep_short_code, page, flags=re.S
    )
    page = re.sub(r"<(info|indexterm|meta|bookmark)\b.*?</\1\s*>", "", page, flags=re.S)
    title = r"<(?:title|h1|h2|h3)\b[^>]*>(.*?)</(?:title|h1|h2|h3)\s*>"
    page = re.sub(title, rf"{_BLOCK_MARK}{_HEADING_MARK}\1{_BLOCK_MARK}", page, flags=re.S)
    page = re.sub(
        r'<paragraph\b[^>]*role="heading"[^>]*>(.*?)</paragraph>',
        rf"{_BLOCK_MARK}{_HEADING_MARK}\1{_BLOCK_MARK}",
        page,
        flags=re.S,
    )
    return _sections(_blocks(page))


def _keep_short_code(match: re.Match[str]) -> str:
    """Return the code inside of a sentence, and a paragraph break for a listing."""
    text = match[0]
    return _TAG.sub("", text) if "\n" not in text and match[1] == "code" else _BLOCK_MARK


def _blocks(page: str) -> Iterator[tuple[bool, str]]:
    for block in _BLOCK.sub(_BLOCK_MARK, page).split(_BLOCK_MARK):
        text = html.unescape(_TAG.sub("", block)).replace("\xa0", " ")
        yield text.startswith(_HEADING_MARK), text.strip(f"{_HEADING_MARK} \n")


def strip_tags(text: str) -> str:
    """Return a text of HTML as one line."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


_MAN_ESCAPES = {
    r"\-": "-", r"\ ": " ", r"\e": "\\", r"\(aq": "'", r"\(bu": "*", r"\(em": "-", r"\(en": "-", r"\(dq": '"',
    r"\(lq": '"', r"\(rq": '"', r"\(ha": "^", r"\(ti": "~", r"\(co": "(c)", r"\&": "", r"\:": "", r"\|": "", r"\~": " ",
    r"\^": "", r"\%": "", r"\/": "", r"\,": "", r"\(oq": "'", r"\(cq": "'", r"\'": "'", r"\`": "`", r"\.": ".",
}  # fmt: skip
_MAN_ESCAPE = re.compile("|".join(map(re.escape, _MAN_ESCAPES)))
_MAN_FONT = re.compile(r"\\f(?:\(..|\[[^]]*\]|.)|\\s[-+]?\d|\\[mF]\[[^]]*\]|\\c$|\\\[[^]]*\]")
_BREAKS = re.compile(
    "PP|LP|P|TP|IP|RS|RE|HP|TQ|sp|br|Pp|It|Bl|El|Bd|Ed|SH|SS|Sh|nf|EX|fi|EE|TS|TE|Vb|Ve"
)
_FONTS = re.compile("B|I|BR|BI|IB|IR|RB|RI|SM|SB")
_CODE_STARTS, _CODE_ENDS = ("nf", "EX", "TS", "Vb"), ("fi", "EE", "TE", "Ve", "SH")


def read_man(page: str) -> list[Section]:
    """Return the sections of a man page; one of mdoc, or one that includes another, has none."""
    return _sections(_man_parts(page))


def _man_parts(page: str) -> Iterator[tuple[bool, str]]:
    text: list[str] = []
    is_code = False
    for line in page.splitlines():
        macro = re.match(r"[.']\s*(\w+)\s*(.*)", line)
        name, arguments = macro.groups() if macro else ("", "")
        if _BREAKS.fullmatch(name) or not line.strip():
            yield False, " ".join(text)
            text = []
            is_code = name in _CODE_STARTS or (is_code and name not in _CODE_ENDS)
            if name in ("SH", "SS"):
                title = _plain_man(arguments.strip('"'))
                yield True, title.capitalize() if title.isupper() else title
        elif is_code or line.startswith(('.\\"', "'\\\"", '\\"')):
            continue
        elif _FONTS.fullmatch(name):
            words = re.findall(r'"((?:[^"]|"")*)"|(\S+)', arguments)
            separator = " " if len(name) == 1 or name in ("SM", "SB") else ""
            text.append(_plain_man(separator.join(quoted or bare for quoted, bare in words)))
        elif not line.startswith((".", "'")):
            text.append(_plain_man(line))
    yield False, " ".join(text)


def _plain_man(text: str) -> str:
    return _MAN_ESCAPE.sub(lambda match: _MAN_ESCAPES[match[0]], _MAN_FONT.sub("", text))


_POD_CODE = re.compile(r"[A-Z]<(?:[^<>|]*\|)?([^<>]*)>")
_POD_LONG = re.compile(r"[A-Z]<<+ (.*?) >>+", re.S)


def read_pod(page: str) -> list[Section]:
    """Return the sections of Perl's documentation; headings are =head1 to =head4."""

    def parts() -> Iterator[tuple[bool, str]]:
        is_pod = False
        for paragraph in re.split(r"\n\s*\n", page):
            command = re.match(r"=(\w+)\s*(.*)", paragraph.lstrip("\n"), re.S)
            if command and command[1] in ("cut", "begin", "for", "encoding"):
                is_pod = command[1] == "encoding"
            elif command:
                is_pod = True
                if command[1].startswith("head"):
                    title = _plain_pod(command[2])
                    yield True, title.capitalize() if title.isupper() else title
            elif is_pod and not paragraph.startswith((" ", "\t")):
                yield False, _plain_pod(paragraph)

    return _sections(parts())


def _plain_pod(text: str) -> str:
    text = re.sub(r"E<(lt|gt)>", lambda match: {"lt": "\x03", "gt": "\x04"}[match[1]], text)
    text = _POD_LONG.sub(r"\1", text)
    for _ in range(3):
        text = _POD_CODE.sub(r"\1", text)
    return text.replace("\x03", "<").replace("\x04", ">")


_UNDERLINE = re.compile(r"([=\-~^*+#\"'`.:])\1{2,}\s*")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`")


def read_rst(page: str) -> list[Section]:
    """Return the sections of reST, Markdown or plain text; literal blocks, directives and field lists are dropped."""
    return _sections(_rst_parts(page))


def _rst_parts(page: str) -> Iterator[tuple[bool, str]]:
    follows_literal = False
    for paragraph in re.split(r"\n[ \t]*\n", page.expandtabs(4)):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        if not lines:
            continue
        indent = len(lines[0]) - len(lines[0].lstrip())
        if follows_literal and indent:
            continue
        follows_literal = lines[-1].rstrip().endswith("::")
        while lines and _UNDERLINE.fullmatch(lines[0].strip()):
            lines.pop(0)
        if len(lines) >= 2 and _UNDERLINE.fullmatch(lines[1].strip()):
            yield True, plain_rst(lines[0])
            lines = lines[2:]
        elif lines and re.match(r"#{1,6} \S", lines[0]):
            yield True, lines.pop(0)
        if not lines or lines[0].lstrip().startswith((".. ", "```", ">>>", "|", "+-", "$ ")):
            follows_literal = follows_literal or bool(
                lines and lines[0].lstrip().startswith(".. code")
            )
            continue
        lines = [line for line in lines if not re.match(r"\s*:[\w -]+:( |$)", line)]
        yield False, plain_rst(re.sub(r"::$", ":", "\n".join(lines)))


def plain_rst(text: str) -> str:
    """Strip roles, references and emphasis: the text of `text <target>`, c of `~a.b.c`."""
    text = _ROLE.sub(lambda match: _target_text(match[1]), text)
    text = re.sub(r"``(.+?)``", r"\1", text)
    text = re.sub(r"`([^`]+)`_{1,2}", lambda match: _target_text(match[1]), text)
    return re.sub(r"(\*\*?)(?=\S)(.+?)(?<=\S)\1", r"\2", text)


def _target_text(text: str) -> str:
    text = re.sub(r"\s*<[^>]*>$", "", text).strip()
    return text.rsplit(".", 1)[-1] if text.startswith("~") else text
