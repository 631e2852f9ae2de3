"""The model card of an exported model: what it is, what it has seen, how good it is, how to load it, and its limits."""

from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.runs import tables
from gptexp.runs.run_folder import RunFolder

CARD = """\
---
library_name: transformers
pipeline_tag: {pipeline}
tags: [gptexp, {kind}]
---
# {name}
{architecture}, {sizes}, written by gptexp.

{training}
## Use
```python
from transformers import {auto_class}, AutoTokenizer

FOLDER = "."  # where this file is, or its name on the hub
tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), {auto_class}.from_pretrained(FOLDER)
inputs = tokenizer({text}, return_tensors="pt")
{use}
```

## Limits
- It reads at most {context} tokens; `{kind}` is all that it was trained for.
- It repeats the mistakes and the bias of its data: check what it says.
{left_out}"""
TRAINING = """\
## Training
Task `{kind}`, from {begin}: {steps:,} steps, {tokens:,} tokens, seed {seed}. Data (fingerprint {fingerprint}):

{sources}

| step | loss | validation loss |
|---|---|---|
{curve}

## Results
On held-out data, beside the naive baseline:

```
{metrics}
```
{remarks}
"""
PIPELINES = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "text2text-generation",
}
USES = {
    "AutoModelForCausalLM": "said = model.generate(**inputs, max_new_tokens=50)[0, inputs.input_ids.shape[1] :]\n"
    "print(tokenizer.decode(said, skip_special_tokens=True))",
    "AutoModelForMaskedLM": "hidden = inputs.input_ids == tokenizer.mask_token_id\n"
    "print(tokenizer.decode(model(**inputs).logits[hidden].argmax(dim=-1)))",
    "AutoModelForSeq2SeqLM": "said = model.generate(**inputs, max_new_tokens=50)[0]\n"
    "print(tokenizer.decode(said, skip_special_tokens=True))",
}


def card(
    source: Path,
    task: schema.TaskConfig,
    architecture: str,
    auto_class: str,
    sizes: str,
    context: int,
    left_out: str | None,
) -> str:
    """README.md of a model, with front matter; `source` is a run folder, or weights of others."""
    text = '"The sea"'
    if isinstance(task, schema.TextToTextConfig):
        text = '"The text" + tokenizer.sep_token'
    elif auto_class == "AutoModelForMaskedLM":
        text = '"The" + tokenizer.mask_token + " is"'
    run = RunFolder(source)
    return CARD.format(
        pipeline=PIPELINES[auto_class],
        kind=task.kind,
        name=_name(source),
        architecture=architecture,
        sizes=sizes,
        training=_training(run) if (source / "config.yaml").is_file() else "",
        auto_class=auto_class,
        text=text,
        use=USES[auto_class],
        context=context,
        left_out=f"- Left out: {left_out}.\n" if left_out else "",
    )


def _name(source: Path) -> str:
    """Of a run's folder its name; of what the hub's cache has, OWNER/NAME."""
    cached = next((part for part in source.parts if part.startswith("models--")), None)
    return cached.removeprefix("models--").replace("--", "/") if cached else RunFolder(source).name


def _training(run: RunFolder) -> str:
    config, result = run.config(), run.result()
    return TRAINING.format(
        kind=config.task.kind,
        begin=f"the weights of {_name(Path(start))}"
        if (start := config.init or config.resume)
        else "random weights",
        steps=result.get("steps", 0),
        tokens=result.get("tokens", 0),
        seed=config.seed,
        fingerprint=run.read("data").get("fingerprint", "unknown"),
        sources="\n".join(_sources(run.read("data").get("corpus", {}))),
        curve="\n".join(_curve(run.metrics())),
        metrics=tables.metrics_table(result.get("metrics", {})),
        remarks="\n".join(f"- {remark}" for remark in result.get("remarks", [])),
    )


def _curve(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of a table: the losses wherever the validation split was passed over, at most about a dozen."""
    passes = [row for row in rows if "val/loss" in row]
    return [
        f"| {row['step']} | {_shown(row.get('train/loss'))} | {_shown(row['val/loss'])} |"
        for row in passes[:: -(-len(passes) // 12) or 1]
    ]


def _shown(loss: float | None) -> str:
    return "skipped" if loss is None else f"{loss:.3f}"


def _sources(corpus: dict[str, Any]) -> list[str]:
    """What data.json says was read, with versions and licences."""
    rest = {
        key: value
        for key, value in corpus.items()
        if key not in ("packages", "files", "parts") and value
    }
    lines = ["- " + ", ".join(f"{key} {value}" for key, value in rest.items())]
    lines += [
        f"- {name} {said['version']}, licence {said['licence']}"
        for name, said in corpus.get("packages", {}).items()
    ]
    for split, files in corpus.get("files", {}).items():
        lines += [
            f"- {split}: {name}, sha256 {digest}, licence not stated" for name, digest in files
        ]
    return lines
