"""One source of examples a file: pydocs, cldr, files, hub, scenes, spoken, tables of pictures or recordings."""

from gptexp.data.corpora.base import Corpus, Example, open_corpus

__all__ = ["Corpus", "Example", "open_corpus"]
