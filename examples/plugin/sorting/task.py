"""The task: letters in, the same letters in alphabetical order out."""

from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import ExactMatch, ExampleMetric
from gptexp.tasks.text_to_text import TextToText


class InPlace(ExampleMetric):
    """The share of letters in their place, 0 to 1."""

    name = "in_place"

    def score(self, output: str, example: EvalExample) -> float:
        pairs = zip(output, example.reference, strict=False)
        return sum(a == b for a, b in pairs) / len(example.reference)


class Sort(TextToText):
    metrics = (ExactMatch(), InPlace())

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        return {"the letters as they are": [example.input for example in examples]}
