"""`gptexp VERB ...` is `python -m gptexp.VERB ...`."""

import json
import runpy
import sys
from typing import Any

from gptexp.errors import UserError, exits_cleanly, nearest

VERBS = {
    "run": "train, continue an interrupted run, or print the result of a finished one",
    "tokenize": "encode texts once, by many processes at a time, into a store that data=tokens trains from",
    "inspect": "show what became of the data, and examples as the model gets them, without training",
    "plan": "parameters, FLOPs, memory, time and price of a run, before anything is spent",
    "generate": "let a trained model answer a prompt",
    "serve": "serve a trained model on this machine: OpenAI's endpoints, and a page to try it",
    "evaluate": "score a trained model on a held-out split, or on tasks of lm-evaluation-harness",
    "export": "write a model as a folder that transformers loads, and check that it computes the same",
    "compare": "show what differs between runs or the jobs of a sweep, and whether it is more than noise",
    "scaling": "fit a scaling law to a ladder of runs, and predict the loss of the next one with an interval",
    "report": "write the page of a run or a sweep, or one page about several runs",
    "dashboard": "make a dashboard of runs or a sweep in Weights & Biases",
    "watch": "show the state, loss curve, speed and time left of runs and sweeps in the terminal",
    "audit": "find duplicates, leaks and personal data in a corpus, and groups of people that it is about",
    "replay": "recompute a step whose loss or gradient was not finite, and continue from it",
    "selftest": "check on this machine that a resumed or rescaled run computes the same",
    "check": "compose every shipped config and sweep",
    "settings": "print every setting with its documentation",
}


def print_json(values: dict[str, Any]) -> None:
    """Print an object as one line of JSON; a terminal without UTF-8 gets the escapes of JSON."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(values, ensure_ascii=not is_utf8), flush=True)


@exits_cleanly
def main() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print("usage: gptexp VERB ...   (gptexp VERB --help explains one)\n")
        print("\n".join(f"  {name:<10}{summary}" for name, summary in VERBS.items()))
        return
    if verb not in VERBS:
        is_run = any("=" in word for word in sys.argv[1:3])
        hint = f" To train, type: gptexp run {verb} ..." if is_run else nearest(verb, VERBS)
        raise UserError(f"there is no verb '{verb}'.{hint} Verbs: {', '.join(VERBS)}")
    sys.argv = [f"gptexp {verb}", *sys.argv[2:]]
    runpy.run_module(f"gptexp.{verb}", run_name="__main__", alter_sys=True)
