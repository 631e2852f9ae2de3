"""Write a model as a folder that transformers loads, and prove that it computes the same there.

python -m gptexp.export latest exported
python -m gptexp.export outputs/pretrain-small-1a2b3c4d exported --dtype bfloat16

The folder has config.json, model.safetensors, tokenizer files and a model card. It appears when it is whole and proven.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.cli import parser_of
from gptexp.config import schema
from gptexp.errors import RunError, UserError, exits_cleanly
from gptexp.runs.model_card import format_model_card
from gptexp.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from gptexp.data.tokenizers import Tokenizer
    from gptexp.model import Transformer

LIMIT = 1e-4  # of a difference between logits in fp32
GREEDY = 50  # tokens of text that are compared
SPECIAL = {
    "bos_token_id": "eos",
    "eos_token_id": "eos",
    "pad_token_id": "pad",
    "sep_token_id": "sep",
    "mask_token_id": "mask",
}


@dataclass
class Report:
    """What was written, and how far transformers agrees with us on it."""

    folder: str
    architecture: str
    sequences: int
    largest_difference: float  # between logits
    same_tokens: bool  # of the two tokenizers, and back to the same text
    same_text: bool | None  # of greedy generation; None: it does not generate
    left_out: str | None

    @property
    def agrees(self) -> bool:
        return self.largest_difference <= LIMIT and self.same_tokens and self.same_text is not False

    def __str__(self) -> str:
        text, tokens = (
            {True: "the same", False: "NOT the same", None: "not what it is for"}[same]
            for same in (self.same_text, self.same_tokens)
        )
        lines = [
            f"loaded by transformers as {self.architecture}: logits of {self.sequences} sequences differ by at most "
            f"{self.largest_difference:.2g}",
            f"greedy text of {GREEDY} tokens: {text}; token numbers: {tokens}",
        ]
        return "\n".join([*lines, *([f"left out: {self.left_out}"] if self.left_out else [])])


@exits_cleanly
def main() -> None:
    parser = parser_of("export", __doc__)
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    parser.add_argument("to", help="the folder to write; it must not exist, or be empty")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args()
    report = export(asked.run, Path(asked.to), asked.dtype)
    print(json.dumps(asdict(report)) if asked.json else f"{report}\n{report.folder}")


def export(run: str, to: Path, dtype: str = "float32") -> Report:
    """Write the model that `run` names to the folder `to`, with weights in `dtype`.

    Raises:
        UserError: there is no such model, no architecture of transformers computes it, or `to` has something in it.
        RunError: transformers computes something else from what was written; nothing is left of it.
    """
    to = to if to.name else to.resolve()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: exists and is not empty; give a folder that does not exist")
    source = find_weights(run)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: cannot be written ({error})") from error

    import torch

    from gptexp.checkpoints.load_model import load, load_task_config, model_settings
    from gptexp.model.hf import convert

    model, tokenizer = load(source)
    task, settings = load_task_config(source, model)
    left_out = _without_class_head(model, task)
    try:
        architecture = convert.architecture_of(model)
    except ValueError as error:
        raise UserError(f"{source.path}: cannot be exported: {error}") from error
    precision: torch.dtype = getattr(torch, dtype)
    model.to(precision).float()  # what is compared is what is written
    special = {name: getattr(tokenizer, role) for name, role in SPECIAL.items()}
    if model.encoder is not None:
        special["decoder_start_token_id"] = tokenizer.sep  # the last token of the source
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        convert.save(
            model,
            temporary,
            precision,
            **special,
            gptexp_task=asdict(task),
            gptexp_model=model_settings(model.config),
        )
        tokenizer.save(temporary / "tokenizer.json")
        if model.config.arch != "encoder":
            generation = {
                name: special[name]
                for name in special
                if name not in ("sep_token_id", "mask_token_id")
            }
            (temporary / "generation_config.json").write_text(
                json.dumps(generation, indent=2) + "\n"
            )
        prompts = _prompts(source, task, settings, model, tokenizer)
        found = _compared(model, tokenizer, temporary, architecture.auto_class, prompts)
        report = Report(str(to), architecture.name, len(prompts), *found, left_out)
        if not report.agrees:
            raise RunError(f"{report}\n{to} is not written")
        config, count = model.config, sum(parameter.numel() for parameter in model.parameters())
        sizes = (
            f"{count:,} parameters ({config.layers} layers, width {config.d_model}, "
            f"vocabulary {config.vocab_size:,})"
        )
        text = format_model_card(
            source.path,
            task,
            architecture.name,
            architecture.auto_class,
            sizes,
            config.context,
            left_out,
        )
        (temporary / "README.md").write_text(text, "utf8")
        if to.exists():
            to.rmdir()
        temporary.rename(to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def _without_class_head(model: "Transformer", task: schema.TaskConfig) -> str | None:
    """Take the class head, which no architecture of transformers has, off a model that is of use without it."""
    if model.class_head is None or not isinstance(task, schema.MaskedLMConfig):
        return None
    model.class_head, model.config = None, replace(model.config, num_sequence_classes=0)
    return (
        f"the head for {task.num_sequence_classes} classes of task={task.kind}, "
        f"which no architecture of transformers has"
    )


def _prompts(
    source: RunFolder | PretrainedFolder,
    task: schema.TaskConfig,
    settings: schema.ModelConfig,
    model: "Transformer",
    tokenizer: "Tokenizer",
) -> list[list[int]]:
    """Token sequences to compare on: what the run was asked for its samples, and two random ones."""
    import torch

    from gptexp.tasks import make_task

    texts = (
        [sample["input"] for sample in source.samples()][:6]
        if isinstance(source, RunFolder)
        else []
    )
    prompt = make_task(task, settings).prompt if model.config.arch != "encoder" else None
    rows = [prompt(text, tokenizer) if prompt else tokenizer.encode(text) for text in texts]
    generator = torch.Generator().manual_seed(0)
    rows += [
        torch.randint(tokenizer.vocab_size, (size,), generator=generator).tolist()
        for size in (2, 64)
    ]
    room = model.config.context - min(GREEDY, model.config.context // 2)
    if model.encoder is not None:
        return [[*row[: room - 1], tokenizer.sep] for row in rows]
    return [row[-room:] for row in rows if row]


def _compared(
    model: "Transformer",
    tokenizer: "Tokenizer",
    folder: Path,
    auto_class: str,
    prompts: list[list[int]],
) -> tuple[float, bool, bool | None]:
    """Load the folder with transformers and compute the same with both.

    Returns:
        The largest difference between logits, whether the tokenizers agree, and whether greedy text does.
    """
    import torch
    import transformers

    from gptexp.generation.generate import generate

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    theirs = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    largest, same_text, same_tokens = 0.0, True, True
    for prompt in prompts:
        new = min(GREEDY, model.config.context - len(prompt))
        tokens, given = torch.tensor([prompt]), len(prompt)
        with torch.inference_mode():
            if model.encoder is not None:
                said, given = torch.tensor([[tokenizer.sep, *prompt[: new - 1]]]), 1
                hidden = model(said, memory=model.encode(tokens, torch.tensor([len(prompt)])))
                logits = theirs(tokens, decoder_input_ids=said).logits
            else:
                hidden, logits = model(tokens), theirs(tokens).logits
            largest = max(largest, float((model.head(hidden) - logits).abs().max()))
        if model.config.arch != "encoder":
            answer = theirs.generate(tokens, max_new_tokens=new, do_sample=False)[
                0, given:
            ].tolist()
            answer = answer[: answer.index(tokenizer.eos)] if tokenizer.eos in answer else answer
            same_text &= generate(model, [prompt], new, tokenizer.eos) == [answer]
        text = tokenizer.decode(prompt)
        same_tokens &= their_tokenizer(text, split_special_tokens=True)[
            "input_ids"
        ] == tokenizer.encode(text)
        same_tokens &= their_tokenizer.decode(prompt, skip_special_tokens=True) == text
    return largest, same_tokens, None if model.config.arch == "encoder" else same_text


if __name__ == "__main__":
    main()
