"""Write the model card of base: trainings, data and licences, figures, use, limits and biases.

    gptexp export RUN src/gptexp/weights/base --dtype int8
    python benchmarks/base.py base first-base --corpus CORPUS --json figures.json
    python benchmarks/base_card.py RUN --corpus CORPUS --figures figures.json

CORPUS is the folder that examples/base writes; its manifest.json names the packages and their licences.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import base

from gptexp.checkpoints.find_weights import find_weights
from gptexp.config.base_weights import FOLDER
from gptexp.config.schema import Config
from gptexp.files import atomic_write
from gptexp.runs.model_card import curve_rows
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.wording import format_count

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [gptexp, pretrain]
---
# base
The weights that come with gptexp: `init=base`, and by default the start of the tasks that gain from it.
{architecture}, {parameters:,} parameters ({layers} layers, width {d_model}, vocabulary {vocabulary:,}), at most
{context} tokens at once. Matrices are in int8, with a scale for each row; gptexp computes with them in fp32.

## Training
Each training continues from the weights of the one before:

{trainings}

Losses of the last one, in nats a token; its validation split has documents and tasks as they are mixed for training:

{curve}

## Data
{size}

{kinds}

Texts are free prose, documentation and source code from package registries. Near-duplicates over all sources are
removed, and so is what repeats a held-out text of any task of gptexp. The table at the end has the packages and
their licences.

## Quality
{documents}

The 5-gram model is trained on {baseline_tokens:,} tokens of the same text, base on those of all trainings above: the
5-gram model is therefore a weak baseline. Copying: random tokens, and the same tokens once more. A model that copies
needs few nats for them the second time; a uniform guess needs {uniform:.2f}.

{copying}

## Use
```python
# pip install compressed-tensors, which reads int8; or `gptexp export base FOLDER`, which writes the weights in fp32
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = "."  # the folder of this file
tokenizer, model = (
    AutoTokenizer.from_pretrained(FOLDER),
    AutoModelForCausalLM.from_pretrained(FOLDER),
)
inputs = tokenizer("The sea", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=50)[0, inputs.input_ids.shape[1] :]
print(tokenizer.decode(output, skip_special_tokens=True))
```

## Intended use
A start for fine-tuning on English technical text, on a laptop: summaries, key terms, continuations. Without fine-tuning
it continues texts; after `<|sep|>` it writes the summary of the text before.

## Limits
- It imitates the style of its texts and has little knowledge: its statements are often wrong, and where a text is about
  something unknown to it, it writes names that it knows.
- It does not follow instructions, and it has not been made safe for anything but a start for fine-tuning.
- A hash of each document assigns it to a split. Other versions of the packages below may have sentences on both sides
  of the split.
- Texts under the GPL and the GFDL train the weights but are not shipped as text. The packages keep the copyright of
  their texts; the weights have the licence of gptexp.

## Bias
Log-likelihood ratios of sentences that differ in one word, with 95 % bootstrap intervals over the templates (`gptexp
audit --model base`, and `--sentences benchmarks/base_beliefs.yaml`). A difference shows a preference of the model; no
difference shows little. A million words of its training text have {pronouns}.

{professions}

{beliefs}

## Sources
{sources}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", help="the run that trained base")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of examples/base")
    parser.add_argument("--figures", type=Path, required=True, help="that base.py --json wrote")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the weights")
    args = parser.parse_args()
    card = format_card(
        find_run(args.run), args.corpus, json.loads(args.figures.read_text()), args.to
    )
    with atomic_write(args.to / "README.md") as file:
        file.write_text(card, "utf8")
    print(args.to / "README.md")


def format_card(run: RunFolder, corpus: Path, figures: dict[str, Any], folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    manifest = json.loads((corpus / "manifest.json").read_text())
    packages = [package for package in manifest if package["bytes of text"]]
    summary = json.loads((corpus / "summary.json").read_text())
    pronouns = [f"{value:.0f} times `{name}`" for name, value in figures["pronouns"].items()]
    return CARD.format(
        architecture=config["architectures"][0],
        parameters=run.result()["parameters"],
        layers=config["num_hidden_layers"],
        d_model=config["hidden_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        trainings=format_trainings(run),
        curve=base.format_table([["step", "training", "validation"], *curve_rows(run.metrics())]),
        size=f"{summary['tokens']['train']:,} tokens of {format_count(len(packages), 'package')}, by kind of record:",
        kinds=format_kinds(summary["kinds"]["train"]),
        documents=base.format_documents(figures),
        baseline_tokens=figures["baselines"]["test"]["training_tokens"],
        uniform=base.math.log(config["vocab_size"]),
        copying=base.format_copying(figures),
        pronouns=", ".join(pronouns),
        professions=base.format_probe(figures, "professions"),
        beliefs=base.format_probe(figures, "beliefs"),
        sources=format_sources(packages),
    )


def format_trainings(run: RunFolder) -> str:
    """Return a table of the runs from the first to this one."""
    rows: list[list[str]] = []
    source: Any = run
    while isinstance(source, RunFolder):
        config, result = source.config(), source.result()
        rows.insert(0, describe_training(config, result))
        start = config.resume or config.init
        if not start:
            break
        source = find_weights(start)
    else:
        name = "base, the version before" if source.path.name == "base" else source.path.name
        rows.insert(0, [name, "", "", "", "", ""])
    head = [
        "task",
        "steps",
        "tokens",
        "context",
        "learning rates",
        "loss on its own validation split",
    ]
    return base.format_table([head, *rows])


def describe_training(config: Config, result: dict[str, Any]) -> list[str]:
    rates = [str(config.optim.lr)]
    if config.optim.kind == "muon":
        rates.append(f"{config.optim.adamw_lr} (AdamW)")
    loss = result.get("metrics", {}).get("val/loss")
    return [
        config.task.kind,
        f"{result['steps']:,} of {config.trainer.global_batch_size}",
        f"{result['tokens']:,}",
        str(config.model.context),
        ", ".join(rates),
        "" if loss is None else f"{loss:.3f}",
    ]


def format_kinds(counts: dict[str, dict[str, int]]) -> str:
    tokens = {kind: count["tokens"] for kind, count in counts.items()}
    total = sum(tokens.values())
    in_order = sorted(tokens.items(), key=lambda item: -item[1])
    rows = [[kind, f"{count:,}", f"{count / total:.1%}"] for kind, count in in_order]
    return base.format_table([["kind", "tokens", "share"], *rows])


def format_sources(packages: list[dict[str, Any]]) -> str:
    rows = [
        [
            package["package"],
            package["version"],
            package["registry"],
            package["licence"].replace("|", "/").replace("\n", " "),
            f"{package['bytes of text'] / 1e6:.1f}",
        ]
        for package in packages
    ]
    return base.format_table([["package", "version", "from", "licence", "MB of text kept"], *rows])


if __name__ == "__main__":
    main()
