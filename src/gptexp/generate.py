"""Let a trained run answer a prompt.

python -m gptexp.generate latest "def read_csv(path):" --num-return-sequences 3 --temperature 0.8
python -m gptexp.generate outputs/translate-nano-1a2b3c4d "3 March 2024"
"""

from __future__ import annotations

import argparse
import json
import sys

from gptexp.config.errors import UserError, exit_cleanly
from gptexp.reporting.record import find_run


def main() -> None:
    exit_cleanly(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(
        "gptexp.generate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    parser.add_argument("prompt", nargs="?", default="-", help="the text to answer; '-' or nothing: read from stdin")
    parser.add_argument("--num-return-sequences", type=int, default=1, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="default: what the task needs")
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="0: the likeliest token each time; default: 0, or 0.8 for a pretrained model or several answers",
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens; 0: from all"
    )
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="draw from the likeliest that sum to P")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args()
    folder = find_run(asked.run)
    text = sys.stdin.read().strip("\n") if asked.prompt == "-" else asked.prompt

    from gptexp.model.decoding import Sampling, generate  # imports torch
    from gptexp.tasks import make_task
    from gptexp.training.weights import load_run

    config = folder.config()
    task = make_task(config.task, config.model.context)
    model, tokenizer = load_run(folder)
    temperature = asked.temperature
    if temperature is None:
        temperature = task.temperature if asked.num_return_sequences == 1 else 0.8
    if asked.num_return_sequences < 1:
        raise UserError(f"--num-return-sequences {asked.num_return_sequences}: must be at least 1")
    if asked.num_return_sequences > 1 and temperature == 0:
        raise UserError("--temperature 0 gives the same answer each time: raise it, or ask for one sequence")
    try:
        rows = generate(
            model,
            [task.prompt(text, tokenizer)] * asked.num_return_sequences,
            task.max_new_tokens if asked.max_new_tokens is None else asked.max_new_tokens,
            tokenizer.eos,
            Sampling(temperature, asked.top_k, asked.top_p, asked.seed),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    answers = [tokenizer.decode(row) for row in rows]
    if asked.json:
        print(json.dumps({"run": str(folder.path), "prompt": text, "outputs": answers}, ensure_ascii=False))
    else:
        print("\n---\n".join(answers if task.generates else [text + answer for answer in answers]))


if __name__ == "__main__":
    main()
