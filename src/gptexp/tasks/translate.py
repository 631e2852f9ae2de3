"""Translation: a text, then the same in another language; BLEU, chrF (both 0 to 100) and exact matches (0 to 1)."""

from sacrebleu.metrics import BLEU, CHRF

from gptexp.tasks.task import TextToText


class Translate(TextToText):
    headline = "exact_match"

    def score_all(self, outputs: list[str], examples: list[dict[str, str]]) -> dict[str, float]:
        references = [example["target"] for example in examples]
        # Languages without spaces are split into characters, else a sentence would count as one word.
        spaced = sum(" " in reference.strip() for reference in references) > len(references) / 4
        bleu = BLEU(tokenize="13a" if spaced else "char")
        return {
            "bleu": bleu.corpus_score(outputs, [references]).score,
            "chrf": CHRF().corpus_score(outputs, [references]).score,
        }

    def score_each(
        self, outputs: list[str], examples: list[dict[str, str]]
    ) -> dict[str, list[float]]:
        equal = [
            output.strip() == e["target"].strip()
            for output, e in zip(outputs, examples, strict=True)
        ]
        return {"exact_match": list(map(float, equal))}

    def baselines(self, examples: list[dict[str, str]]) -> dict[str, list[str]]:
        return {"copy of the source": [example["source"] for example in examples]}
