"""Translation: exact matches (0 to 1), BLEU and chrF (both 0 to 100) next to a copy of the source."""

from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import Bleu, Chrf, ExactMatch
from gptexp.tasks.text_to_text import TextToText


class Translate(TextToText):
    metrics = (ExactMatch(), Bleu(), Chrf())

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        return {"copy of the source": [example.input for example in examples]}
