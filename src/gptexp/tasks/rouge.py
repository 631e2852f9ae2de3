"""rouge_score's ROUGE, for words of all scripts; importing it draws in nltk."""

from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer

from gptexp.data.duplicates import WORD


class RougeScorer(rouge_scorer.RougeScorer):
    """Scores pairs by ROUGE of these kinds, on stemmed words."""

    def __init__(self, kinds: list[str]) -> None:
        self.words = _Words(use_stemmer=True)
        super().__init__(kinds, tokenizer=self.words)

    def count_words(self, text: str) -> int:
        return len(self.words.tokenize(text))


class _Words(DefaultTokenizer):
    """The tokenizer of rouge_score, which knows the letters a to z only, and words of other letters unchanged."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in WORD.findall(text.lower()):
            tokens += super().tokenize(word) if word.isascii() else [word]
        return tokens
