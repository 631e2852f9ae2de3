"""The names of all settings: which dataclasses a group offers, and which keys they have."""

from __future__ import annotations

from dataclasses import Field, fields, is_dataclass
from typing import Any

from gptexp.config.schema import (
    AdamW,
    Bert,
    Bpe,
    Byte,
    Char,
    Cldr,
    Config,
    Extract,
    Files,
    Hub,
    HuggingFace,
    Logger,
    Mlm,
    Model,
    Muon,
    Nsp,
    Pretrain,
    Pydocs,
    Summarize,
    Trainer,
    Translate,
)

# Group -> name of its schema in Hydra's store -> dataclass. YAML files start with `defaults: [base_...]`.
SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"base_model": Model},
    "data": {"base_pydocs": Pydocs, "base_cldr": Cldr, "base_files": Files, "base_hub": Hub},
    "tokenizer": {"base_bpe": Bpe, "base_char": Char, "base_byte": Byte, "base_hf": HuggingFace},
    "task": {
        "base_pretrain": Pretrain,
        "base_mlm": Mlm,
        "base_nsp": Nsp,
        "base_bert": Bert,
        "base_summarize": Summarize,
        "base_translate": Translate,
        "base_extract": Extract,
    },
    "optim": {"base_muon": Muon, "base_adamw": AdamW},
    "trainer": {"base_trainer": Trainer},
    "logger": {"base_logger": Logger},
}


def walk(config: Any, prefix: str = "") -> list[tuple[str, Field, Any]]:
    """(dotted key, dataclass field, value) of every setting of a config object."""
    found = []
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            found += walk(value, f"{prefix}{item.name}.")
        else:
            found.append((prefix + item.name, item, value))
    return found


def known_fields(schema: type) -> list[str]:
    return [item.name for item in fields(schema)]


def known_keys() -> list[str]:
    """Every dotted key that some choice of groups offers."""
    inner = [f"{group}.{name}" for group, schemas in SCHEMAS.items()
             for schema in schemas.values() for name in known_fields(schema)]  # fmt: skip
    return list(dict.fromkeys(known_fields(Config) + inner))
