"""A plugin as a stranger would write it: a module of settings, a module of implementations, and YAML files."""

from pathlib import Path

SETTINGS = """
from dataclasses import dataclass
from typing import ClassVar

from gptexp import DataConfig, ModelConfig, OptimConfig, ScheduleConfig, register, setting
from gptexp.config.schema import TextToTextConfig


@register
@dataclass
class BackwardsConfig(TextToTextConfig):
    kind: str = "backwards"
    target = "toy_code:Backwards"


@register
@dataclass
class WordsConfig(DataConfig):
    kind: str = "words"
    target = "toy_code:Words"
    count: int = setting(300, "number of words", minimum=10)
    letters: str = setting("abcdef", "letters of the words")


@register
@dataclass
class SawtoothConfig(ScheduleConfig):
    kind: str = "sawtooth"
    target = "toy_code:Sawtooth"
    period: int = setting(10, "steps of a tooth", minimum=1)


@register
@dataclass
class SignSGDConfig(OptimConfig):
    kind: str = "signsgd"
    target = "toy_code:build_signsgd"
    lr: float = setting(0.01, "peak learning rate", minimum=0)


@register
@dataclass
class SquareConfig(ModelConfig):
    kind: str = "square"
    target = "toy_code:SquareTransformer"
    power: int = setting(2, "power of the activation", minimum=1)
"""
CODE = """
import random

import lightning as L
import torch

from gptexp.data.corpora import Corpus, Example
from gptexp.model import Transformer
from gptexp.runs.trackers import Tracker
from gptexp.tasks.metrics import Metric
from gptexp.tasks.translate import Translate


class Backwards(Translate):
    pass


class Words(Corpus):
    supported_fields = (("source", "target"),)

    def __init__(self, config, fields, cache):
        self.count, self.letters = config.count, config.letters

    def describe(self):
        return {"source": "words", "count": self.count, "letters": self.letters}

    def __iter__(self):
        draw = random.Random(0)
        for _ in range(self.count):
            word = "".join(draw.choice(self.letters) for _ in range(6))
            yield Example({"source": word, "target": word[::-1]})


class MoreWords(Words):
    def __init__(self, count: int = 300, letters: str = "xyz"):
        self.count, self.letters = count, letters


class Sawtooth:
    def __init__(self, config):
        self.period = config.period

    def multiplier(self, step, steps):
        return 1 - step % self.period / self.period


class Triangle:
    def __init__(self, period: int = 7, low: float = 0.5):
        self.period, self.low = period, low

    def multiplier(self, step, steps):
        return self.low + (1 - self.low) * (step % self.period) / self.period


class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign(), alpha=-group["lr"])


def build_signsgd(config, named_parameters, device):
    return [SignSGD([p for _, p in named_parameters], config.lr)]


class SquareTransformer(Transformer):
    def __init__(self, config, power: int = 2):
        super().__init__(config)
        self.power = power


class Note(L.Callback):
    def __init__(self, file: str, every: int = 2):
        self.file, self.every = file, every

    def on_train_start(self, trainer, module):
        with open(self.file, "a") as out:
            out.write(f"{self.every}\\n")


class FileTracker(Tracker):
    def __init__(self, folder, name: str = "curve.txt"):
        self.file = folder.path / name

    def log(self, row):
        with self.file.open("a") as out:
            out.write(f"{row['step']}\\n")
"""
YAML = {
    "task/backwards": """
# @package _global_
defaults: [/task/base_backwards@task, override /data: words, override /tokenizer: byte, _self_]
task: {max_target_tokens: 10, test_examples: 10}
""",
    "data/words": "defaults: [base_words, _self_]",
    "data/more_words": "_target_: toy_code.MoreWords\ncount: 200",
    "schedule/sawtooth": "defaults: [base_sawtooth, _self_]",
    "schedule/triangle": "_target_: toy_code.Triangle\nperiod: 5",
    "optim/signsgd": "defaults: [base_signsgd, _self_]",
    "optim/sgd": "_target_: torch.optim.SGD\nlr: 0.1\nmomentum: 0.9",
    "logger/file": "_target_: toy_code.FileTracker",
    "model/square": "defaults: [base_square, _self_]\nsize: square\nlayers: 2\nd_model: 32\nheads: 2\ncontext: 32",
    "callbacks/note": "note: {_target_: toy_code.Note, file: note.txt}",
    "experiment/toy": """
# @package _global_
plugins: [toy]
defaults: [override /task: backwards, override /model: square, _self_]
seed: 7
""",
}


def write_plugin(folder: Path) -> None:
    """Write the modules `toy` and `toy_code`, and conf/ beside them."""
    folder.mkdir(exist_ok=True)
    (folder / "toy.py").write_text(SETTINGS)
    (folder / "toy_code.py").write_text(CODE)
    for name, text in YAML.items():
        file = folder / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip())
