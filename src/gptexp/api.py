"""gptexp in a few lines of Python, in the shape that people know from Hugging Face.

from gptexp import GPT
model = GPT.from_pretrained("outputs/summarize-small-1a2b3c4d")
print(model.summarize("A long text ..."))
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import as_overrides, load, load_task_config
from gptexp.config import compose
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import UserError
from gptexp.files import atomic_write
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer
from gptexp.run import run
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.task import Task, make_task
from gptexp.training.evaluation import answers

FEW = 50  # examples, of which none can be spared to validate
FIELDS = ("text", "source", "target", "terms")
Texts = TypeVar("Texts", str, list[str])


class GPT:
    """A trained Transformer, its tokenizer, and the task that it was trained for."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, task: Task, source: Path) -> None:
        self.model, self.tokenizer, self.task, self.source = (
            model.to(pick_device()),
            tokenizer,
            task,
            source,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Self:
        """The model of a run folder (or `latest`), of an exported folder, or of a name on the Hugging Face hub.

        Raises:
            UserError: there is no such thing, or it is damaged or of an architecture that is not ours.
        """
        source = find_weights(str(name))
        model, tokenizer = load(source)
        return cls(
            model, tokenizer, make_task(*load_task_config(source, model)), source.path.resolve()
        )

    @classmethod
    def from_dataset(cls, dataset: Iterable[Any], *overrides: str) -> Self:
        """A new model, trained from scratch: `GPT.from_dataset(texts, "model=nano", "trainer.max_steps=50")`.

        Args and errors: see `train_on_dataset`.
        """
        return cls.from_pretrained(_train(dataset, ["init=scratch"], overrides, None))

    def train_on_dataset(self, dataset: Iterable[Any], *overrides: str) -> Path:
        """Train this model further; an ordinary run, whose folder is returned.

        Args:
            dataset: a list, a torch Dataset or a `datasets` object of texts, of (source, target) pairs, or of dicts
                with `text`, with `source` and `target`, or with `source` and `terms`.
            overrides: settings as on the command line, "task=translate" or "trainer.max_steps=100". By default texts
                are for task=pretrain, terms for extract, and pairs for the model's own task, or else summarize.

        Raises:
            UserError: the data or a setting does not fit. RunError: training failed.
        """
        free = (
            set() if self.model.config.position == "learned" else {"context"}
        )  # of others' models it is very long
        given = [
            "model=small",
            *as_overrides(self.model.config, free, self.tokenizer.vocab_size),
            f"init={compose.quoted(self.source)}",
        ]
        done = _train(dataset, given, overrides, self.task)
        self.__dict__ = GPT.from_pretrained(done).__dict__
        return done

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens)

    def generate(
        self,
        prompt: str | list[int],
        *,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        num_return_sequences: int = 1,
        temperature: float | None = None,
        **sampling: Any,
    ) -> list[Any]:
        """How the model goes on from a text, or from token numbers: as many texts, or lists of token numbers.

        Args:
            max_length: tokens in all, those of the prompt included; or give max_new_tokens without them.
            temperature: 0 takes the likeliest token each time; default 0, 0.8 for several sequences, and that of the
                task where it draws candidates.
            sampling: other options of gptexp.sampling.Sampling: top_k, top_p, mbr_samples, seed, ...

        Raises:
            UserError: a value is out of its range, or the model does not generate.
        """
        layout, answerer = self.task.layout, self.task.answerer
        if not isinstance(answerer, GenerateText):
            raise UserError(
                f"{self.source}: generates no text; it was trained to {self.task.config.kind}"
            )
        if not isinstance(prompt, str | list):
            raise UserError(
                f"{prompt!r:.60}: a prompt is a text, a picture's file name, or a list of token numbers"
            )
        echoed = self.encode(prompt) if isinstance(prompt, str) else list(prompt)
        if isinstance(prompt, str):
            task_input = layout.parse_prompt(prompt, self.tokenizer)
            start = layout.prompt(task_input, self.tokenizer).prepend(self.tokenizer.bos_ids)
            echoed = echoed if layout.stream else []
        else:
            start = Prompt(tuple(prompt))
        if max_new_tokens is None:
            room = self.model.config.context - len(start)
            most = answerer.max_new_tokens if isinstance(prompt, str) else 64
            max_new_tokens = min(room, most) if max_length is None else max_length - len(start)
        mbr_samples = sampling.get("mbr_samples") or answerer.sampling.mbr_samples
        if temperature is None and num_return_sequences == mbr_samples == 1:
            temperature = 0.0
        try:
            chosen = answerer.sampling.with_overrides(
                num_return_sequences, temperature=temperature, **sampling
            )
            rows = Generator(self.model, self.tokenizer.eos).generate(
                [start] * num_return_sequences, max_new_tokens, chosen
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"generate: {error}") from error
        found = [echoed + row for row in rows]
        return [self.decode(row) for row in found] if isinstance(prompt, str) else found

    def summarize(self, text: Texts) -> Texts:
        """The summary of a text, or of each text of a list."""
        return self._answer(text, "summarize")

    def translate(self, text: Texts) -> Texts:
        """A text, or each text of a list, in the language that the model was trained for."""
        return self._answer(text, "translate")

    def extract(self, text: Texts) -> Texts:
        """The key terms of a text, or of each text of a list, separated by semicolons."""
        return self._answer(text, "extract")

    def caption(self, image: Any) -> str:
        """The caption of a picture or clip: a file, an image of Pillow's, or bytes [H, W, 3] or [F, H, W, 3]."""
        self._check("caption")
        return self.task.answerer.answer(
            self.model, self.tokenizer, [self.task.layout.parse_prompt(image, self.tokenizer)]
        )[0]

    def speak(self, text: str, voice: str | None = None) -> Any:
        """A text as sound, to be played or saved: `.save("x.wav")`, `.samples` [N] at 16,000 a second.

        Raises:
            UserError: the text has characters that the model has never seen.
        """
        self._check("speak")
        if not isinstance(text, str):
            raise UserError(f"{text!r:.60}: give a text to speak, one at a time")
        line = self.task.layout.voice_text(text, voice, self.tokenizer)  # type: ignore[attr-defined]
        return self.task.answerer.answer(self.model, self.tokenizer, [line])[0]

    def _check(self, kind: str) -> None:
        if self.task.config.kind != kind:
            how = f"Train one: python -m gptexp.run task={kind}"
            if kind not in ("caption", "speak"):
                data = "dicts with source and terms" if kind == "extract" else "pairs"
                how = (
                    f'Fine-tune it: train_on_dataset({data}, "task={kind}"), or load a run that was'
                )
            raise UserError(
                f"{self.source}: was trained to {self.task.config.kind}, not to {kind}. {how}"
            )

    def _answer(self, text: Texts, kind: str) -> Texts:
        self._check(kind)
        if isinstance(text, str):
            return self.task.answerer.answer(self.model, self.tokenizer, [text])[0]
        return answers(self.model, self.task, self.tokenizer, text)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the model, its tokenizer and a model card as a folder that transformers loads.

        Raises:
            UserError: transformers has no such architecture, or the folder has something in it.
        """
        from gptexp.export import export

        export(str(self.source), Path(path))


def _train(
    dataset: Iterable[Any], given: list[str], overrides: Iterable[str], task: Task | None
) -> Path:
    rows = list(_rows(dataset))
    kinds = sorted(
        {"text" if "text" in row else "terms" if "terms" in row else "target" for row in rows}
    )
    if len(kinds) != 1:
        raise UserError(
            f"the data set has {', '.join(kinds) or 'nothing'}: give texts or pairs, all of one kind"
        )
    words = [word for word in overrides if not word.startswith("task=")]
    chosen = [word for word in overrides if word.startswith("task=")]
    own = task.config.kind if task and task.layout.fields[-1] == kinds[0] else "summarize"
    kind = {"text": "pretrain", "terms": "extract", "target": own}[kinds[0]]
    if len(rows) < FEW:
        given = [*given, "data.val_fraction=0", "data.test_fraction=0"]
    command = [*(chosen or [f"task={kind}"]), "data=files", *given, *words]
    config = compose.compose_config([*command, "data.path=unknown"])
    if kinds == ["text"]:
        written = sum(len(row["text"].split()) for row in rows)
        rows *= math.ceil(
            2 * (config.model.context + 1) / max(1, written)
        )  # a few sentences do not fill a window
    path = _written(rows, compose.cache_folder(config))
    return run(
        compose.compose_config([*command, f"data.path={compose.quoted(path)}"])
    ).path.resolve()


def _rows(dataset: Iterable[Any]) -> Iterator[dict[str, Any]]:
    if isinstance(dataset, str | Path):
        raise UserError(
            f"{dataset!s:.60}: is one text; give texts, or train on a file: gptexp run data=files data.path=..."
        )
    if isinstance(dataset, dict):
        raise UserError(
            f"a dict of {', '.join(map(str, dataset))}: give one of its parts, dataset['train'] for example"
        )
    sized = hasattr(dataset, "__len__") and hasattr(
        dataset, "__getitem__"
    )  # a torch Dataset may not know its end
    items = (dataset[number] for number in range(len(dataset))) if sized else iter(dataset)  # type: ignore[index,arg-type]
    for number, item in enumerate(items):
        match item:
            case str():
                yield {"text": item}
            case dict() if not {"text", "source"}.isdisjoint(item):
                yield {name: item[name] for name in FIELDS if name in item}
            case (str() as source, str() as target):
                yield {"source": source, "target": target}
            case _:
                raise UserError(
                    f"item {number} of the data set is {str(item)[:60]!r}: give texts, pairs of texts, or dicts with "
                    f"`text`, or with `source` and `target` or `terms` (not token numbers)"
                )


def _written(rows: list[dict[str, Any]], cache: Path) -> Path:
    """The data set as a file, named by its content."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = cache / "datasets" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf8")
    return path
