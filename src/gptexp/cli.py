"""`gptexp VERB ...` is `python -m gptexp.VERB ...`."""

import argparse
import runpy
import sys

from gptexp.errors import nearest

VERBS = {
    "run": "train, continue an interrupted run, or print the result of a finished one",
    "generate": "let a trained model answer a prompt",
    "evaluate": "score a trained model on a held-out split, next to a naive baseline",
    "export": "write a model as a folder that transformers loads, and check that it computes the same",
    "replay": "recompute a step whose loss or gradient was not finite, and continue from it",
    "selftest": "check on this machine that a resumed or rescaled run computes the same",
    "check": "compose every shipped config and sweep",
    "settings": "print every setting with its documentation",
}


def make_parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a verb's command line; `description` is the docstring of its module."""
    return argparse.ArgumentParser(
        f"gptexp.{verb}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )


def main() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print("usage: gptexp VERB ...   (gptexp VERB --help explains one)\n")
        print("\n".join(f"  {name:<10}{summary}" for name, summary in VERBS.items()))
        return
    if verb not in VERBS:
        print(
            f"gptexp: there is no verb '{verb}'.{nearest(verb, VERBS)} Verbs: {', '.join(VERBS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.argv = [f"gptexp {verb}", *sys.argv[2:]]
    runpy.run_module(f"gptexp.{verb}", run_name="__main__", alter_sys=True)
