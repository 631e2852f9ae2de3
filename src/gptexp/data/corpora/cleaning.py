"""Extract the prose of documentation: no code examples, no bare headings, no boilerplate."""

import re
from collections import Counter

from gptexp.data.duplicates import normalized_hash

MAX_REPEATS = 2  # of a paragraph, for example of a licence or of a note on a shared base class
FENCED = re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$\n?", re.M | re.S)
MARKUP = re.compile(
    r"^[ \t]*(?:</?\w[^>\n]*>|\.\. [\w-]+::.*|:[a-z-]+:.*|[-=~^*]{3,})[ \t]*$\n?", re.M
)
PARAGRAPH = re.compile(r"\n[ \t]*\n")


class Cleaner:
    """Counts the paragraphs of a corpus, whose documents it gets one after the other."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()

    def extract_prose(self, text: str) -> str:
        """Return the paragraphs of a document that are prose and not boilerplate, with the markup inside of lines."""
        prose = []
        for paragraph in PARAGRAPH.split(MARKUP.sub("", FENCED.sub("", text))):
            is_session = ">>>" in paragraph
            has_one_word = not re.search(r"\w\W+\w", paragraph)
            if is_session or has_one_word:
                continue
            digest = normalized_hash(paragraph)
            self.counts[digest] += 1
            if self.counts[digest] <= MAX_REPEATS:
                prose.append(paragraph.strip("\n"))
        return "\n\n".join(prose)
