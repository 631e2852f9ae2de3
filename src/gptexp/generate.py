"""Let a trained model answer a prompt.

python -m gptexp.generate latest "def read_csv(path):" --num-return-sequences 3 --temperature 0.8
python -m gptexp.generate outputs/translate-nano-1a2b3c4d "3 March 2024"
python -m gptexp.generate outputs/caption-nano-1a2b3c4d picture.png
python -m gptexp.generate outputs/speak-small-1a2b3c4d "four hundred and two" --out speech.wav
python -m gptexp.generate Qwen/Qwen3-0.6B-Base "The sea is"
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptexp.checkpoints.find_weights import find_weights
from gptexp.cli import parser_of
from gptexp.errors import UserError, exits_cleanly

if TYPE_CHECKING:
    from gptexp.data.tokenizers import Tokenizer
    from gptexp.model import Transformer
    from gptexp.tasks import Task

SAMPLING: dict[str, tuple[type, str]] = {
    "temperature": (
        float,
        "0: the likeliest token each time; default: as the task does, or 0.8 for several answers",
    ),
    "top_k": (int, "draw from the N likeliest tokens; 0: from all"),
    "top_p": (float, "draw from the likeliest that sum to N"),
    "min_p": (float, "draw from those at least N times as likely as the first"),
    "repetition_penalty": (float, "above 1: less of what was said already"),
    "no_repeat_ngram": (int, "no N tokens in a row said twice"),
    "num_beams": (int, "search the likeliest answer with N beams; default: as the task does"),
    "length_penalty": (float, "of beams: above 0 prefers long answers, below 0 short ones"),
    "mbr_samples": (int, "draw N answers and give the one that most others resemble"),
    "seed": (int, "of what is drawn; default: 0"),
}


def _arguments() -> argparse.Namespace:
    parser = parser_of("generate", __doc__)
    parser.add_argument("run", help="a run, 'latest', an exported folder or a Hugging Face name")
    parser.add_argument(
        "prompt",
        nargs="?",
        default="-",
        help="the text to answer, or a picture's file; '-' or nothing: read from stdin",
    )
    parser.add_argument("--num-return-sequences", type=int, default=1, metavar="N")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="default: what the task needs"
    )
    for name, (kind, what) in SAMPLING.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=what)
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="ends an answer; can be repeated",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="show each answer while it comes, without beams or candidates",
    )
    parser.add_argument(
        "--weights",
        default="float32",
        choices=("float32", "bfloat16", "int8", "auto"),
        help="format of the weights on a CPU; auto: the fastest here (default: float32)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where sound is written; default: speech.wav"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args()
    asked.given = [name for name in vars(asked) if getattr(asked, name) != parser.get_default(name)]
    return asked


@exits_cleanly
def main() -> None:
    asked = _arguments()
    source = find_weights(asked.run)
    text = _prompt(asked)

    from gptexp.checkpoints.load_model import load, load_task_config
    from gptexp.distributed.devices import pick_device
    from gptexp.tasks import make_task  # imports torch

    model, tokenizer = load(source)
    model.to(
        pick_device("auto" if asked.weights == "float32" else "cpu")
    )  # the other formats are a CPU's
    task = make_task(*load_task_config(source, model))
    given = task.read(text, tokenizer)
    if model.config.arch == "encoder" or model.config.predicts_features:
        _check_whole(asked, task.config.kind, model.config.predicts_features)
        answers = task.answers(model, tokenizer, [given])
        _show(
            asked,
            source.path,
            text,
            [said if isinstance(said, str) else _written(said, asked) for said in answers],
        )
        return
    before = text if task.continues else ""
    try:
        if answers := _by_token(asked, model, tokenizer, task, given, before):
            _show(asked, source.path, text, answers, before)
    except ValueError as error:
        raise UserError(str(error)) from error


def _prompt(asked: argparse.Namespace) -> str:
    if asked.stream and (asked.json or max(asked.num_beams or 1, asked.mbr_samples or 1) > 1):
        raise UserError(
            "--stream: shows tokens as they are chosen, which --json, --num-beams and --mbr-samples do not"
        )
    if "" in asked.stop:
        raise UserError("--stop '': must be a text that an answer can end with")
    try:
        text = sys.stdin.read().strip("\n") if asked.prompt == "-" else asked.prompt
        text.encode("utf8")
    except UnicodeError as error:
        raise UserError(f"the prompt is not UTF-8 text ({error})") from error
    return text


def _check_whole(asked: argparse.Namespace, kind: str, is_sound: bool) -> None:
    """Refuse what is for answers that are chosen token by token, where they are not."""
    allowed = {"run", "prompt", "json", *(["out"] if is_sound else [])}
    if chosen := [name for name in asked.given if name not in allowed]:
        option = chosen[0].replace("_", "-")
        raise UserError(f"--{option}: has no effect with task={kind}, which does not choose tokens")
    if asked.out and not asked.out.resolve().parent.is_dir():
        raise UserError(f"--out {asked.out}: there is no folder {asked.out.parent}")


def _by_token(
    asked: argparse.Namespace,
    model: "Transformer",
    tokenizer: "Tokenizer",
    task: "Task",
    given: Any,
    before: str,
) -> list[str]:
    """Answers that are chosen token by token; none where they were shown at once."""
    from gptexp.generation.generate import generate, stream
    from gptexp.generation.stream_text import find_stop, pieces

    count = asked.num_return_sequences
    if asked.out:
        raise UserError(f"--out {asked.out}: is for sound; a text can be redirected: > {asked.out}")
    if count < 1:
        raise UserError(f"--num-return-sequences {count}: must be at least 1")
    if count > 1 and asked.temperature == 0 and (asked.num_beams or 1) == 1:
        raise UserError(
            "--temperature 0 gives the same answer each time: raise it, ask for one sequence, or use --num-beams"
        )
    prompt = tokenizer.bos_ids + task.prompt(given, tokenizer)
    features = None if (rows := task.features(given)) is None else [rows]
    most = task.max_new_tokens if asked.max_new_tokens is None else asked.max_new_tokens
    wishes = {name: getattr(asked, name) for name in SAMPLING} | (
        {"num_beams": 1, "mbr_samples": 1} if asked.stream else {}
    )
    sampling = task.sampling.changed(count, **wishes)
    if asked.stream:
        for number, seed in enumerate(sampling.seeds(count)):
            how: dict[str, Any] = {"seeds": [seed], "weights": asked.weights, "features": features}
            steps = stream(model, [prompt], most, tokenizer.eos, sampling, **how)
            print("\n---\n" * (number > 0) + before, end="", flush=True)
            for piece in pieces(
                (token for [token] in steps if token is not None), tokenizer.decode, asked.stop
            ):
                print(piece, end="", flush=True)
        print()
        return []
    said = generate(
        model,
        [prompt] * count,
        most,
        tokenizer.eos,
        sampling,
        until=(lambda row: find_stop(tokenizer.decode(row), asked.stop) is not None)
        if asked.stop
        else None,
        weights=asked.weights,
        features=features and features * count,
    )
    answers = [tokenizer.decode(row) for row in said]
    return [answer[: find_stop(answer, asked.stop)] for answer in answers]


def _written(sound: Any, asked: argparse.Namespace) -> str:
    path = asked.out or Path("speech.wav")
    sound.save(path)
    return str(path)


def _show(
    asked: argparse.Namespace, run: Path, prompt: str, answers: list[str], before: str = ""
) -> None:
    if asked.json:
        print(
            json.dumps({"run": str(run), "prompt": prompt, "outputs": answers}, ensure_ascii=False)
        )
    else:
        print("\n---\n".join(before + answer for answer in answers))


if __name__ == "__main__":
    main()
