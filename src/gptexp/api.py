"""gptexp from Python: train a model, load it, and let it answer.

from gptexp import load, train
run = train(["task=translate"], dataset=[("3 March 2024", "2024-03-03"), ...])
model = load(run)
print(model("4 July 1999"))
"""

import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import as_overrides, load_task_config
from gptexp.checkpoints.load_model import load as load_weights
from gptexp.config import compose
from gptexp.config.callbacks import digest_objects
from gptexp.config.grammar import quote
from gptexp.config.hydra_errors import explain_hydra_error
from gptexp.config.plugins import import_plugins
from gptexp.config.schema import Config
from gptexp.data.read_conversation import read_conversation
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import Preempted, UserError, nearest
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.in_memory_dataset import compose_for_dataset, with_dataset
from gptexp.model import Transformer
from gptexp.run import run
from gptexp.runs.run_folder import RunFolder
from gptexp.sampling import Sampling
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.chat_session import chat_answerer
from gptexp.tasks.task import Task, make_task
from gptexp.tasks.unread_input import describe_unread_input
from gptexp.training.evaluation import compute_outputs

if TYPE_CHECKING:
    from lightning import Callback

    from gptexp.tasks.speech.audio import Audio

MAX_NEW_TOKENS = 64  # by default, after a prompt of token numbers
Texts = TypeVar("Texts", str, list[str])


def train(
    overrides: Sequence[str] | Config = (),
    *,
    dataset: Iterable[Any] | None = None,
    callbacks: Sequence["Callback"] = (),
    plugins: Sequence[str] = (),
) -> RunFolder:
    """Train a model as `python -m gptexp.run` does, and return the run's folder.

    The same call continues a run that was interrupted. A finished run is not trained again.

    Args:
        overrides: settings as on the command line, `["task=translate", "model=nano"]`; or a Config, from
            `compose_config` or from the `config()` of a run, with whatever you have changed in it.
        dataset: texts, (source, target) pairs or dicts of fields, in a list, a torch Dataset or a `datasets` object,
            instead of data=...: see `GPT.train_on_dataset`. With overrides, the number of steps follows from its size;
            a Config keeps its own.
        callbacks: Lightning callbacks, in one process. Their code and their attributes are part of the run's id, so
            that a run with other callbacks is another run.
        plugins: names of modules that register settings classes.

    Raises:
        UserError: a setting, an item of the data set or a plugin is wrong. RunError: training failed.
    """
    if isinstance(overrides, str):
        raise UserError(f"{overrides}: give a list of overrides, train([{overrides!r}])")
    if isinstance(overrides, Config):
        config = _copy_and_check(overrides, plugins)
        if dataset is not None:
            config = with_dataset(config, dataset)
    else:
        defaults = [f"plugins=[{','.join(plugins)}]"] if plugins else []
        if dataset is None:
            config = compose.compose_config([*defaults, *overrides])
        else:
            config = compose_for_dataset(dataset, overrides, defaults)
    config.callbacks_digest = digest_objects(callbacks) if callbacks else None
    return _run(config, callbacks)


def load(name: str | Path | RunFolder) -> "GPT":
    """Load a trained model: see `GPT.from_pretrained`."""
    return GPT.from_pretrained(name)


class GPT:
    """A trained Transformer with its tokenizer and the task that it was trained for.

    `model(input)` answers as the task does; `model.generate(prompt)` has the options of generation.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, task: Task, source: Path, size: str
    ) -> None:
        self.model = model.to(pick_device())
        self.tokenizer, self.task, self.source, self.size = tokenizer, task, source, size

    @classmethod
    def from_pretrained(cls, name: str | Path | RunFolder) -> Self:
        """Load the model of a run (a folder, `latest`), an exported folder, or a name on the Hugging Face hub.

        Raises:
            UserError: there is no such model, it is damaged, or its architecture is not supported.
        """
        source = name if isinstance(name, RunFolder) else find_weights(str(name))
        model, tokenizer = load_weights(source)
        task_config, model_config = load_task_config(source, model)
        task = make_task(task_config, model_config)
        return cls(model, tokenizer, task, source.path.resolve(), model_config.size)

    @classmethod
    def from_dataset(cls, dataset: Iterable[Any], *overrides: str) -> Self:
        """Train a new model from random weights: `GPT.from_dataset(texts, "model=nano", "trainer.max_steps=50")`.

        Args and errors: see `train_on_dataset`.
        """
        return cls.from_pretrained(_run(compose_for_dataset(dataset, overrides, ["init=scratch"])))

    def train_on_dataset(self, dataset: Iterable[Any], *overrides: str) -> RunFolder:
        """Train this model further, in an ordinary run whose folder is returned.

        Args:
            dataset: texts, (source, target) pairs, or dicts with the fields of the task: `text`; `source` and
                `target`; `source` and `terms`; fields of other names with "data.fields.target=summary". A list, a torch
                Dataset or a `datasets` object.
            overrides: settings as on the command line, "task=translate" or "trainer.max_steps=100". By default the task
                stays where it fits the data; or else it is pretrain for texts, summarize for pairs, and extract for
                terms. The number of steps follows from the number of sequences.

        Raises:
            UserError: an item or a setting is wrong. RunError: training failed.
        """
        free = {"context"}  # published models have a very long one
        if self.model.config.position == "learned":
            free = set()
        defaults = [
            "model=small",  # the overrides below replace all of its settings
            f"model.size={quote(self.size)}",
            *as_overrides(self.model.config, free, self.tokenizer.vocab_size),
            f"init={quote(self.source)}",
        ]
        folder = _run(compose_for_dataset(dataset, overrides, defaults, self.task))
        trained = GPT.from_pretrained(folder)
        self.model, self.tokenizer = trained.model, trained.tokenizer
        self.task, self.source, self.size = trained.task, trained.source, trained.size
        return folder

    def __call__(self, input: Any) -> Any:
        """Answer an input, or each input of a list, as the task does.

        An input is a text, or whatever else the task takes: an image (a file, a Pillow image, an array), a text with
        the name of a voice ("VOICE|TEXT"). A model that continues texts returns the text and its continuation.

        Raises:
            UserError: the task cannot answer the input.
        """
        inputs = input if isinstance(input, list) else [input]
        layout = self.task.layout
        parsed = [layout.parse_prompt(item, self.tokenizer) for item in inputs]
        self._warn_of_unread_input(parsed)
        try:
            outputs = compute_outputs(self.model, self.task, self.tokenizer, parsed)
        except ValueError as error:
            raise UserError(str(error)) from None
        if layout.stream and isinstance(self.task.answerer, GenerateText):
            outputs = [text + output for text, output in zip(inputs, outputs, strict=True)]
        return outputs if isinstance(input, list) else outputs[0]

    def summarize(self, text: Texts) -> Texts:
        """Summarize a text, or each text of a list."""
        return self._require_task("summarize")(text)

    def translate(self, text: Texts) -> Texts:
        """Translate a text, or each text of a list, as the model was trained to."""
        return self._require_task("translate")(text)

    def extract(self, text: Texts) -> Texts:
        """Extract the key terms of a text, or of each text of a list, separated by semicolons."""
        return self._require_task("extract")(text)

    def caption(self, image: Any) -> str:
        """Describe an image or a clip: a file, a Pillow image, or an array of uint8, [H, W, 3] or [F, H, W, 3]."""
        return self._require_task("caption")(image)

    def speak(self, text: str, voice: str | None = None) -> "Audio":
        """Turn a text into audio, to be saved with `.save("x.wav")`; `.samples` [N] has 16,000 a second.

        Raises:
            UserError: there is no such voice, or the text has characters that the model has never seen.
        """
        model = self._require_task("speak")
        from gptexp.tasks.speech.layout import SEPARATOR

        return model(text if voice is None else f"{voice}{SEPARATOR}{text}")

    def generate(
        self,
        prompt: Any,
        *,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        num_return_sequences: int = 1,
        temperature: float | None = None,
        stop_strings: Sequence[str] = (),
        **sampling: Any,
    ) -> list[Any]:
        """Return answers to a prompt; by default one, decoded greedily.

        Args:
            prompt: an input of the task, or a list of token numbers; the answers to token numbers are lists, too, and
                begin with the prompt.
            max_length: largest number of tokens, those of the prompt included.
            max_new_tokens: largest number of tokens, those of the prompt not included; default: that of the task.
            temperature: default: 0 for one answer, 0.8 for several, and that of the task for minimum Bayes risk.
            stop_strings: texts that end an answer and are not part of it; not with token numbers.
            sampling: other options of `gptexp.sampling.Sampling`: top_k, top_p, num_beams, mbr_samples, seed and so on.

        Raises:
            UserError: an option is out of its range, or the model generates no text.
        """
        layout, answerer = self.task.layout, self.task.answerer
        if not isinstance(answerer, GenerateText):
            raise UserError(
                f"{self.source}: generates no text; it was trained for {self.task.config.kind}, call model(input)"
            )
        if isinstance(prompt, list):
            if any(isinstance(item, dict) for item in prompt):
                raise UserError("generate: a list holds token numbers; for messages, call chat")
            if stop_strings:
                raise UserError(
                    "generate: stop_strings need a prompt of text, not of token numbers"
                )
            start, default_length = Prompt(tuple(prompt)), MAX_NEW_TOKENS
        else:
            if isinstance(stop_strings, str) or "" in stop_strings:
                raise UserError(
                    f"generate: stop_strings={stop_strings!r}: give a list of texts, none of them empty"
                )
            task_input = layout.parse_prompt(prompt, self.tokenizer)
            start = layout.prompt(task_input, self.tokenizer)
            default_length = answerer.max_new_tokens
        if max_length is not None and max_new_tokens is None:
            max_new_tokens = max_length - len(start)
        if max_new_tokens is None:
            max_new_tokens = min(self.model.config.context - len(start), default_length)
        mbr_samples = sampling.get("mbr_samples") or answerer.sampling.mbr_samples
        if temperature is None and num_return_sequences == mbr_samples == 1:
            temperature = 0.0
        if not isinstance(prompt, list):
            self._warn_of_unread_input([task_input], max_new_tokens)
        try:
            options = answerer.sampling.with_overrides(
                num_return_sequences, temperature=temperature, **sampling
            )
            generator = Generator(self.model, self.tokenizer.eos_ids)
            if isinstance(prompt, list):
                rows = generator.generate([start] * num_return_sequences, max_new_tokens, options)
                return [prompt + row for row in rows]
            answers = answerer.generate(
                generator,
                self.tokenizer,
                start,
                num_return_sequences,
                max_new_tokens,
                options,
                stop_strings,
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"generate: {error}") from None
        return [prompt + answer for answer in answers] if layout.stream else answers

    def chat(
        self,
        messages: Any,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        stop_strings: Sequence[str] = (),
        **sampling: Any,
    ) -> str:
        """Return the assistant's answer to a conversation; by default it is decoded greedily.

        Args:
            messages: a list of {"role": "user", "content": "..."}, with {"role": "assistant", ...} for earlier answers
                and {"role": "system", ...} first; {"messages": [...], "tools": [...]}; or a text as the only message.
            max_new_tokens: longest answer; default: that of the task. Messages that do not fit into the rest of the
                context are left out from the oldest on, but the system prompt stays.
            sampling: see `generate`.

        Raises:
            UserError: the messages are of another form, an option is out of its range, or there is no chat template.
        """
        conversation = read_conversation(messages)
        if max_new_tokens is not None and (type(max_new_tokens) is not int or max_new_tokens < 1):
            raise UserError(
                f"chat: max_new_tokens={max_new_tokens!r}: must be a whole number above 0"
            )
        known = {option.name: type(option.default) for option in fields(Sampling)}
        for name, value in {"temperature": temperature, **sampling}.items():
            if name not in known:
                raise UserError(f"chat: there is no option {name}.{nearest(name, known)}")
            if isinstance(value, bool) or not isinstance(value, (int, known[name])):
                kind = "a whole number" if known[name] is int else "a number"
                raise UserError(f"chat: {name}={value!r}: must be {kind}")
        answerer = chat_answerer(self.task, self.tokenizer, self.model.config, max_new_tokens)
        chat, chat.task = copy(self), copy(self.task)
        chat.task.layout, chat.task.answerer = answerer.layout, answerer
        length = answerer.max_new_tokens
        options = {"temperature": temperature, "stop_strings": stop_strings, **sampling}
        return chat.generate(conversation, max_new_tokens=length, **options)[0]

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of a text."""
        return self.tokenizer.encode(text)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of token numbers, without special tokens."""
        return self.tokenizer.decode(tokens)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the model, its tokenizer and a model card as a folder that transformers loads.

        Raises:
            UserError: transformers has no such architecture, or the folder has files that gptexp did not export.
        """
        from gptexp.export import export

        export(str(self.source), Path(path))

    def _warn_of_unread_input(self, inputs: list[Any], max_new_tokens: int | None = None) -> None:
        """Warn of the parts of the inputs that the model does not read."""
        task, config = self.task, self.model.config
        for number, item in enumerate(inputs):
            unread = describe_unread_input(
                task.layout, task.answerer, item, self.tokenizer, config, max_new_tokens
            )
            if unread:
                place = f"input {number}" if len(inputs) > 1 else "the input"
                warnings.warn(
                    f"the model does not read {place} as it is written: {unread}", stacklevel=3
                )

    def _require_task(self, kind: str) -> Self:
        """Return self, if the model was trained for this task."""
        if self.task.config.kind == kind:
            return self
        data = {
            "summarize": "pairs",
            "translate": "pairs",
            "extract": "dicts with source and terms",
        }
        advice = f"Train one: python -m gptexp.run task={kind}"
        if kind in data:
            advice = (
                f'Fine-tune it: train_on_dataset({data[kind]}, "task={kind}"), '
                f"or load a run that was trained for it"
            )
        raise UserError(
            f"{self.source}: was trained for {self.task.config.kind}, not for {kind}. {advice}"
        )


def _copy_and_check(config: Config, plugins: Sequence[str]) -> Config:
    """Import the plugins, and return a checked copy of a config that names them."""
    try:
        checked = cast(Config, OmegaConf.to_object(OmegaConf.structured(config)))
    except OmegaConfBaseException as error:
        raise explain_hydra_error(error, []) from None
    import_plugins(list(plugins))
    checked.plugins += [name for name in plugins if name not in checked.plugins]
    checked.find_plugins()
    compose.check_config(checked)
    return checked


def _run(config: Config, callbacks: Sequence["Callback"] = ()) -> RunFolder:
    """Run a config; Ctrl-C raises KeyboardInterrupt once the run is saved."""
    try:
        return RunFolder(run(config, callbacks=callbacks).path.resolve())
    except Preempted as stopped:
        if not str(stopped).startswith("SIGINT"):
            raise
        raise KeyboardInterrupt(f"{stopped}; the same call continues") from None
