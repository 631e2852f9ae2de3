"""The model card (README.md) of an exported model: architecture, training, results, use and limits."""

from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.runs import tables
from gptexp.runs.run_folder import RunFolder

MAX_CURVE_ROWS = 12
CARD = """\
---
library_name: transformers
pipeline_tag: {pipeline}
tags: [gptexp, {kind}]
---
# {name}
{architecture}, {size}, written by gptexp.

{training}
## Use
```python
{install}from transformers import {auto_class}, AutoTokenizer

FOLDER = "."  # the folder of this file, or its name on the hub
tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), {auto_class}.from_pretrained(FOLDER)
{inputs}
{use}
```
{chat}
## Limits
- It reads at most {context} tokens, and it was trained for the task `{kind}` only.
- It reproduces the errors and the bias of its training data: check its output.
{left_out}"""
TRAINING = """\
## Training
Task `{kind}`, from {start}: {steps:,} steps, {tokens:,} tokens, seed {seed}. Data (fingerprint {fingerprint}):

{sources}
"""
CURVE = """
| step | training loss | validation loss |
|---|---|---|
{rows}
"""
RESULTS = """
## Results
Metrics on held-out data, next to those of the strongest naive baseline:

```
{metrics}
```
{remarks}
"""
NO_RESULTS = """
## Results
No data was held out, so nothing is known about its quality.
"""
PIPELINES = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "text2text-generation",
}
USES = {
    "AutoModelForCausalLM": (
        "output = model.generate(**inputs, max_new_tokens=50)[0, inputs.input_ids.shape[1] :]\n"
        "print(tokenizer.decode(output, skip_special_tokens=True))"
    ),
    "AutoModelForMaskedLM": (
        "masked = inputs.input_ids == tokenizer.mask_token_id\n"
        "print(tokenizer.decode(model(**inputs).logits[masked].argmax(dim=-1)))"
    ),
    "AutoModelForSeq2SeqLM": (
        "output = model.generate(**inputs, max_new_tokens=50)[0]\n"
        "print(tokenizer.decode(output, skip_special_tokens=True))"
    ),
}


CHAT_INPUTS = """\
messages = [{"role": "user", "content": "What is a river?"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
CHAT = """
`chat_template.jinja` says how a conversation is written: a system prompt, answers and further questions are more
entries of `messages`. An answer ends at a token of `eos_token_id` in generation_config.json.
"""


def format_model_card(
    source: Path,
    task: schema.TaskConfig,
    architecture: str,
    auto_class: str,
    size: str,
    context: int,
    left_out: str | None,
    dtype: str = "float32",
    has_chat_template: bool = False,
) -> str:
    """Return the text of a model card, with its front matter.

    Args:
        source: a run folder, or a folder of pretrained weights.
        auto_class: the class of transformers that loads the model.
        size: number of parameters, layers, width and vocabulary, as a phrase.
        left_out: the part of the model that was not exported, and why.
        dtype: format of the weights.
    """
    text = '"The sea"'
    if isinstance(task, schema.TextToTextConfig):
        text = '"The text" + tokenizer.sep_token'
    elif auto_class == "AutoModelForMaskedLM":
        text = '"The" + tokenizer.mask_token + " is"'
    inputs = f'inputs = tokenizer({text}, return_tensors="pt")'
    chats = (
        has_chat_template
        and auto_class == "AutoModelForCausalLM"
        and not isinstance(task, schema.TextToTextConfig)
    )
    is_run = (source / "config.yaml").is_file()
    return CARD.format(
        pipeline=PIPELINES[auto_class],
        kind=task.kind,
        name=_model_name(source),
        architecture=architecture,
        size=size,
        training=_training(RunFolder(source)) if is_run else "",
        install="# pip install compressed-tensors, which reads int8\n" if dtype == "int8" else "",
        auto_class=auto_class,
        inputs=CHAT_INPUTS if chats else inputs,
        chat=CHAT if chats else "",
        use=USES[auto_class],
        context=context,
        left_out=f"- Left out: {left_out}.\n" if left_out else "",
    )


def _model_name(source: Path) -> str:
    """Return OWNER/NAME for a folder in the hub's cache, else the name of the folder."""
    for part in source.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return source.resolve().name


def _training(run: RunFolder) -> str:
    config, result, data = run.config(), run.result(), run.read_record("data")
    weights = config.init or config.resume
    training = TRAINING.format(
        kind=config.task.kind,
        start=f"the weights of {_model_name(Path(weights))}" if weights else "random weights",
        steps=result.get("steps", 0),
        tokens=result.get("tokens", 0),
        seed=config.seed,
        fingerprint=data.get("fingerprint", "unknown"),
        sources="\n".join(_sources(data.get("corpus", {}))),
    )
    if curve := curve_rows(run.metrics()):
        training += CURVE.format(rows="\n".join(f"| {' | '.join(row)} |" for row in curve))
    metrics = tables.metrics_table(result.get("metrics", {}))
    if not metrics:
        return training + NO_RESULTS
    remarks = "\n".join(f"- {remark}" for remark in result.get("remarks", []))
    return training + RESULTS.format(metrics=metrics, remarks=remarks)


def curve_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return step, training loss and validation loss of the validation steps, about MAX_CURVE_ROWS of them."""
    validated = [row for row in rows if "val/loss" in row]
    stride = max(1, -(-len(validated) // MAX_CURVE_ROWS))
    return [
        [str(row["step"]), _loss(row.get("train/loss")), _loss(row["val/loss"])]
        for row in validated[::stride]
    ]


def _loss(loss: float | None) -> str:
    return "skipped" if loss is None else f"{loss:.3f}"


def _sources(corpus: dict[str, Any]) -> list[str]:
    """Return list items for the sources in data.json, with their versions and licences."""
    listed_below = ("packages", "files", "parts")
    general = [
        f"{key} {value}" for key, value in corpus.items() if key not in listed_below and value
    ]
    lines = ["- " + ", ".join(general)]
    for name, package in corpus.get("packages", {}).items():
        lines.append(f"- {name} {package['version']}, licence {package['licence']}")
    for split, files in corpus.get("files", {}).items():
        for name, digest in files:
            lines.append(f"- {split}: {name}, sha256 {digest}, licence not stated")
    return lines
