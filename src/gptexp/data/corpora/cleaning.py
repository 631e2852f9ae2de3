"""Documentation as prose: without code examples, empty headings, and what is said over and over."""

import re
from collections import Counter

from gptexp.data.duplicates import normalized_hash

OFTEN = 2  # times that a paragraph is let through: licences, notes on a shared base class
FENCED = re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$\n?", re.M | re.S)
MARKUP = re.compile(
    r"^[ \t]*(?:</?\w[^>\n]*>|\.\. [\w-]+::.*|:[a-z-]+:.*|[-=~^*]{3,})[ \t]*$\n?", re.M
)
PARAGRAPH = re.compile(r"\n[ \t]*\n")


class Cleaner:
    """Remembers which paragraphs it has let through: give it the documents of a corpus one after the other."""

    def __init__(self) -> None:
        self.said: Counter[bytes] = Counter()

    def prose(self, text: str) -> str:
        """The paragraphs of a document that are prose and not boilerplate, their markup left in the lines."""
        kept = []
        for paragraph in PARAGRAPH.split(MARKUP.sub("", FENCED.sub("", text))):
            if ">>>" in paragraph or not re.search(
                r"\w\W+\w", paragraph
            ):  # an interactive session, a bare heading
                continue
            said = normalized_hash(paragraph)
            self.said[said] += 1
            if self.said[said] <= OFTEN:
                kept.append(paragraph.strip("\n"))
        return "\n\n".join(kept)
