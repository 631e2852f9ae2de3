"""Write a model as a folder that transformers loads, and check that transformers computes the same from it.

python -m gptexp.export latest exported
python -m gptexp.export outputs/pretrain-small-1a2b3c4d exported --dtype bfloat16

The folder has config.json, model.safetensors, tokenizer files and a model card. It appears only if the check succeeds.
"""

import json
import sys
from collections.abc import Set
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.config import schema
from gptexp.config.plugins import settings_modules
from gptexp.errors import RunError, UserError, exits_cleanly
from gptexp.files import atomic_folder
from gptexp.runs.model_card import format_model_card
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.runs.wandb_uploads import log_model, with_wandb
from gptexp.wording import first_line

if TYPE_CHECKING:
    from gptexp.data.tokenizers import Tokenizer
    from gptexp.model import Transformer

MAX_DIFFERENCE = 1e-4  # between logits in fp32
GREEDY_TOKENS = 50  # length of the greedy texts that are compared
MAX_SAMPLE_PROMPTS = 6
RANDOM_PROMPT_LENGTHS = (2, 64)
EXPORTED_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "README.md",
}
ROLES = {  # entry of config.json -> attribute of Tokenizer
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "pad_token_id": "pad",
    "sep_token_id": "sep",
    "mask_token_id": "mask",
}


@dataclass(frozen=True)
class Comparison:
    """How far transformers agrees with gptexp on a model; None: not compared."""

    largest_difference: float  # between logits
    same_tokens: bool | None  # both tokenizers encode and decode alike; None: no tokenizer
    same_text: bool | None  # greedy texts are equal; None: the model does not generate
    same_chat: bool | None  # both write conversations with the same tokens; None: no chat template

    @property
    def agrees(self) -> bool:
        return (
            self.largest_difference <= MAX_DIFFERENCE
            and self.same_tokens is not False
            and self.same_text is not False
            and self.same_chat is not False
        )


@dataclass(frozen=True)
class Report(Comparison):
    """What was exported, and the comparison that checked it."""

    folder: str
    architecture: str
    sequences: int  # number of prompts that were compared
    left_out: str | None  # the part of the model that was not exported, and why

    def __str__(self) -> str:
        words = {True: "the same", False: "NOT the same", None: "not compared"}
        lines = [
            f"loaded by transformers as {self.architecture}: logits of {self.sequences} sequences differ by at most "
            f"{self.largest_difference:.2g}",
            f"greedy text of {GREEDY_TOKENS} tokens: {words[self.same_text]}; "
            f"token numbers: {words[self.same_tokens]}",
        ]
        if self.same_chat is not None:
            lines.append(f"tokens of conversations by the chat template: {words[self.same_chat]}")
        if self.left_out:
            lines.append(f"left out: {self.left_out}")
        return "\n".join(lines)


@exits_cleanly
def main() -> None:
    parser = CommandParser("export", __doc__)
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    parser.add_argument("to", help="the folder to write: a new or empty one, or an earlier export")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="format of the weights (default: float32); transformers reads int8 with the package compressed-tensors",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="log the folder to W&B, as an artifact of the run that has trained the model",
    )
    args = parser.parse_args()
    if not args.wandb:
        report = export(args.run, Path(args.to), args.dtype)
    else:
        folder = find_run(args.run)
        config = with_wandb(folder.config())
        report = export(args.run, Path(args.to), args.dtype)
        log_model(config, folder, Path(args.to))
    if args.json:
        print_json(asdict(report))
    else:
        print(f"{report}\n{report.folder}")


def export(run: str, to: Path, dtype: str = "float32") -> Report:
    """Write the model that `run` names to the folder `to`, with weights in `dtype`. An earlier export is replaced.

    Raises:
        UserError: there is no such model, no architecture of transformers computes it, or `to` has files that an export
            does not write.
        RunError: transformers computes something else from the files; `to` stays as it was.
    """
    to = to if to.name else to.resolve()
    _check_is_replaceable(to)
    source = find_weights(run)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: cannot be written ({error})") from None

    import torch

    from gptexp.checkpoints.load_model import load, load_task_config
    from gptexp.model.hf import convert

    model, tokenizer = load(source)
    task, settings = load_task_config(source, model)
    left_out = _drop_class_head(model, task)
    try:
        architecture = convert.architecture_of(model)
    except ValueError as error:
        raise UserError(f"{source.path}: cannot be exported: {error}") from None
    precision: torch.dtype = getattr(torch, dtype)
    try:
        convert.round_weights(model, precision)  # to compare those that are written
    except ValueError as error:
        raise UserError(f"--dtype {dtype}: {error}") from None
    prompts = _comparison_prompts(source, task, settings, model, tokenizer)
    with atomic_folder(to) as folder:
        # Without compressed-tensors, transformers cannot load int8: it gets the same values in fp32.
        readable = torch.float32 if precision == torch.int8 else precision
        _write_files(folder, model, tokenizer, task, readable)
        comparison = _compare(model, tokenizer, folder, architecture.auto_class, prompts)
        report = Report(
            folder=str(to),
            architecture=architecture.name,
            sequences=len(prompts),
            left_out=left_out,
            **vars(comparison),
        )
        if not report.agrees:
            raise RunError(f"{report}\n{to} is not written")
        if readable != precision:
            _write_files(folder, model, tokenizer, task, precision)
        card = format_model_card(
            source.path,
            task,
            architecture.name,
            architecture.auto_class,
            _describe_size(model),
            model.config.context,
            left_out,
            dtype,
            has_chat_template=bool(tokenizer.chat_template),
        )
        (folder / "README.md").write_text(card, "utf8")
    return report


def log_exported_model(config: schema.Config, folder: RunFolder) -> None:
    """Export the model of a run and log it to W&B. A model that cannot be exported fails no run."""
    with TemporaryDirectory(dir=folder.path) as temporary:
        to = Path(temporary) / "model"
        try:
            export(str(folder.path), to)
        except Exception as error:
            print(f"W&B: the model is not logged: {first_line(error)}", file=sys.stderr)
            return
        log_model(config, folder, to)


def _check_is_replaceable(folder: Path) -> None:
    """Refuse a folder with files of other origin: an export replaces the folder as a whole."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder")
    names = {path.name for path in folder.iterdir()}
    config = folder / "config.json"
    is_export = config.is_file() and '"gptexp_task"' in config.read_text("utf8", "replace")
    others = sorted(names - EXPORTED_FILES if is_export else names)
    if others:
        raise UserError(
            f"{folder}: has files that gptexp has not exported ({', '.join(others[:3])}); name a new folder, "
            f"or remove them"
        )


def _drop_class_head(model: "Transformer", task: schema.TaskConfig) -> str | None:
    """Remove a masked language model's class head, which transformers has no place for; return what was removed."""
    if model.class_head is None or not isinstance(task, schema.MaskedLMConfig):
        return None
    model.class_head, model.config = None, replace(model.config, num_sequence_classes=0)
    return (
        f"the head for {task.num_sequence_classes} classes of task={task.kind}, "
        f"which no architecture of transformers has"
    )


def _write_files(
    folder: Path,
    model: "Transformer",
    tokenizer: "Tokenizer",
    task: schema.TaskConfig,
    precision: Any,
) -> None:
    """Write config, weights, tokenizer and generation config."""
    from gptexp.checkpoints.load_model import model_settings
    from gptexp.model.hf import convert

    special_ids = {name: getattr(tokenizer, role) for name, role in ROLES.items()}
    if model.encoder is not None:
        special_ids["decoder_start_token_id"] = tokenizer.sep  # the last token of the source
    special_ids = {name: token for name, token in special_ids.items() if token != -1}
    convert.save(
        model,
        folder,
        precision,
        **special_ids,
        gptexp_task=asdict(task),
        gptexp_plugins=settings_modules([task]),
        gptexp_model=model_settings(model.config, tokenizer.vocab_size),
    )
    tokenizer.save(folder / "tokenizer.json")
    if model.config.arch != "encoder":
        generation = {
            name: token
            for name, token in special_ids.items()
            if name not in ("sep_token_id", "mask_token_id")
        }
        text = json.dumps(generation, indent=2) + "\n"
        (folder / "generation_config.json").write_text(text)


def _describe_size(model: "Transformer") -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    return (
        f"{count:,} parameters ({config.layers} layers, width {config.d_model}, "
        f"vocabulary {config.vocab_size:,})"
    )


def _comparison_prompts(
    source: RunFolder | PretrainedFolder,
    task: schema.TaskConfig,
    settings: schema.ModelConfig,
    model: "Transformer",
    tokenizer: "Tokenizer",
) -> list[list[int]]:
    """Return the token sequences to compare on: prompts of the run's samples, conversations, and random ones."""
    import torch

    from gptexp.exported_chat import render_prompts
    from gptexp.tasks.task import make_task

    samples = source.samples()[:MAX_SAMPLE_PROMPTS] if isinstance(source, RunFolder) else []
    texts = [sample["input"] for sample in samples]
    layout = make_task(task, settings).layout
    if model.config.arch == "encoder":
        prompts = [tokenizer.encode(text) for text in texts]
    else:
        inputs = [layout.parse_prompt(text, tokenizer) for text in texts]
        prompts = [list(layout.prompt(item, tokenizer).tokens) for item in inputs]
        prompts += [tokens for _, tokens in render_prompts(tokenizer)]
    generator = torch.Generator().manual_seed(0)
    prompts += [
        torch.randint(tokenizer.vocab_size, (length,), generator=generator).tolist()
        for length in RANDOM_PROMPT_LENGTHS
    ]
    context = model.config.context
    max_length = context - min(GREEDY_TOKENS, context // 2)
    if model.encoder is not None:
        return [[*tokens[: max_length - 1], tokenizer.sep] for tokens in prompts]
    return [tokens[-max_length:] for tokens in prompts if tokens]


def _compare(
    model: "Transformer",
    tokenizer: "Tokenizer",
    folder: Path,
    auto_class: str,
    prompts: list[list[int]],
) -> Comparison:
    """Load the folder with transformers and compare logits, greedy text and tokens on each prompt."""
    import torch
    import transformers

    from gptexp.exported_chat import has_same_chat

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    theirs = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32).eval()
    generates = model.config.arch != "encoder"
    has_tokenizer = (folder / "tokenizer.json").is_file()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder) if has_tokenizer else None
    differences, same_tokens, same_text = [], True, True
    for prompt in prompts:
        with torch.inference_mode():
            differences.append(_logit_difference(model, theirs, prompt, tokenizer.sep))
            if generates:
                same_text &= _has_same_greedy_text(model, theirs, prompt, tokenizer.eos_ids)
        if their_tokenizer is not None:
            text = tokenizer.decode(prompt)
            tokens = their_tokenizer(text, split_special_tokens=True)["input_ids"]
            same_tokens &= tokens == tokenizer.encode(text)
            same_tokens &= their_tokenizer.decode(prompt, skip_special_tokens=True) == text
    return Comparison(
        max(differences),
        same_tokens if has_tokenizer else None,
        same_text if generates else None,
        has_same_chat(tokenizer, their_tokenizer),
    )


def _logit_difference(model: "Transformer", theirs: Any, prompt: list[int], sep: int) -> float:
    """Return the largest difference between the logits of both models, [1, T, V]."""
    import torch

    tokens = torch.tensor([prompt])
    if model.encoder is None:
        hidden, their_logits = model(tokens), theirs(tokens).logits
    else:
        target = torch.tensor([[sep, *prompt[: _num_new_tokens(model, prompt) - 1]]])
        hidden = model(target, memory=model.encode(tokens, torch.tensor([len(prompt)])))
        their_logits = theirs(tokens, decoder_input_ids=target).logits
    return float((model.head(hidden) - their_logits).abs().max())


def _has_same_greedy_text(
    model: "Transformer", theirs: Any, prompt: list[int], eos: Set[int]
) -> bool:
    """Return whether both choose the same tokens, up to one that is as likely as the other's to rounding."""
    import torch

    from gptexp.generation.decode_state import DecodeState
    from gptexp.generation.generator import Generator
    from gptexp.generation.prompt import Prompt

    new, tokens = _num_new_tokens(model, prompt), torch.tensor([prompt])
    # Without a mask, transformers takes padding tokens of the prompt for padding.
    mask = torch.ones_like(tokens)
    output = theirs.generate(tokens, attention_mask=mask, max_new_tokens=new, do_sample=False)[0]
    # transformers returns the prompt, or the start token of the decoder, before the new tokens.
    chosen = output[len(prompt) if model.encoder is None else 1 :].tolist()
    answer = list(takewhile(lambda token: token not in eos, chosen))
    start = Prompt(tuple(prompt))
    [own_answer] = Generator(model, eos).generate([start], new)
    if own_answer == answer:
        return True
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own_answer, answer, strict=False))
    )
    if same == len(chosen):
        return False
    state = DecodeState(model, [start], new)
    for token in answer[:same]:
        state.step(torch.tensor([token]))
    return float(state.logits.max() - state.logits[0, chosen[same]]) <= MAX_DIFFERENCE


def _num_new_tokens(model: "Transformer", prompt: list[int]) -> int:
    return min(GREEDY_TOKENS, model.config.context - len(prompt))


if __name__ == "__main__":
    main()
