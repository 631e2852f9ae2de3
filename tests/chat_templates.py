"""Chat templates in the shapes of five published families, conversations to render, and tokenizers with their tokens.

The templates mark what the assistant generates, for the masks of transformers; `without_tags` removes the marks.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptexp.data.conversation import Conversation, Message
from gptexp.data.tokenizers import Tokenizer

CHATML = """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
LLAMA3 = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system = '' %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Knowledge ends in December 2023\\n\\n' }}
{%- for tool in tools or [] %}{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
{{- system + '<|eot_id|>' }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- generation %}
{%- if message.tool_calls %}
{%- if message.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' }}
{%- else %}{{- message.content | trim }}{%- endif %}
{{- '<|eot_id|>' }}
{%- endgeneration %}
{%- else %}
{%- set role = 'ipython' if message.role == 'tool' else message.role %}
{{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
MISTRAL = """
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{%- set messages = messages[1:] %}
{%- endif %}
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if loop.first and tools %}{{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{{- '[INST] ' + (system + '\\n\\n' if loop.first and system is defined else '') + message.content + '[/INST]' }}
{%- elif message.role == 'tool' %}
{{- '[TOOL_RESULTS] {"content": ' + message.content | tojson + '}[/TOOL_RESULTS]' }}
{%- elif message.role == 'assistant' %}
{%- generation %}
{%- if message.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls %}{{- (', ' if not loop.first else '') + call.function | tojson }}{%- endfor %}
{{- ']' }}
{%- else %}{{- ' ' + message.content | trim }}{%- endif %}
{{- eos_token }}
{%- endgeneration %}
{%- else %}{{- raise_exception('no role ' + message.role) }}{%- endif %}
{%- endfor %}
"""
GEMMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set first = messages[0].content | trim + '\\n\\n' %}{%- set messages = messages[1:] %}
{%- else %}{%- set first = '' %}{%- endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('user and assistant must take turns') }}
{%- endif %}
{%- if message.role == 'assistant' %}
{{- '<start_of_turn>model\\n' }}
{%- generation %}{{- message.content | trim + '<end_of_turn>' }}{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<start_of_turn>user\\n' + (first if loop.first else '') + message.content | trim + '<end_of_turn>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""
QWEN = """
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_question=messages | length - 1, searching=true) %}
{%- for message in messages[::-1] %}
{%- if ns.searching and message.role == 'user' %}
{%- set ns.searching = false %}{%- set ns.last_question = messages | length - loop.index %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{%- if loop.index0 > ns.last_question and (loop.last or message.reasoning_content) %}
{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n' if message.content or not loop.first }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """A published family of models: its template, and the shape of its tokenizer."""

    template: str
    special_tokens: tuple[
        str, ...
    ]  # the token that begins a text first, if there is one, then the one that ends it
    has_bos: bool = True
    is_sentencepiece: bool = False
    has_tools: bool = True
    max_calls: int = 2


FAMILIES = {
    "chatml": Family(CHATML, ("<|im_end|>", "<|im_start|>"), has_bos=False, has_tools=False),
    "llama3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        max_calls=1,
    ),
    "mistral": Family(
        MISTRAL,
        (
            *("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
            *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        is_sentencepiece=True,
    ),
    "gemma": Family(
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        is_sentencepiece=True,
        has_tools=False,
    ),
    "qwen": Family(QWEN, ("<|im_end|>", "<|im_start|>"), has_bos=False),
}

TEXT = "sea river  stone\n wind\t tree é 🌊 bird, rain; 12 3.5 cloud <b> {x} the answer is"
WORDS = TEXT.split(" ")
TOOL = {
    "type": "function",
    "function": {
        "name": "find_river",
        "description": "Find a river by its name.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}


def without_tags(template: str) -> str:
    """Return a template that does not say what the assistant generates."""
    opened = re.sub(r"(\{%-?\s*)generation(\s*-?%\})", r"\1if true\2", template)
    return re.sub(r"(\{%-?\s*)endgeneration(\s*-?%\})", r"\1endif\2", opened)


def make_tokenizer(family: Family) -> Tokenizer:
    """Train a small tokenizer like that of the family: byte-level BPE, or SentencePiece's with bytes for the rest."""
    if family.is_sentencepiece:
        backend = tokenizers.Tokenizer(
            models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
        )
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        alphabet: list[str] = []
        special = ["<unk>", *family.special_tokens, *(f"<0x{byte:02X}>" for byte in range(256))]
    else:
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = [*family.special_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    texts = [TEXT, "system user assistant model find_river name arguments"]
    backend.train_from_iterator(texts * 3, trainer)
    bos, eos = family.special_tokens[:2] if family.has_bos else (None, family.special_tokens[0])
    return Tokenizer(backend, eos, bos_token=bos, chat_template=without_tags(family.template))


def make_conversation(rng: random.Random, family: Family) -> Conversation:
    """Return a conversation of one to four questions, with a system prompt and calls of tools where they fit."""
    messages = [Message("system", make_text(rng))] if rng.random() < 0.5 else []
    has_tools = family.has_tools and rng.random() < 0.5
    for _ in range(rng.randint(1, 4)):
        messages.append(Message("user", make_text(rng)))
        if has_tools and rng.random() < 0.5:
            calls = tuple(_make_call(rng) for _ in range(rng.randint(1, family.max_calls)))
            messages.append(Message("assistant", "", tool_calls=calls))
            messages += [Message("tool", make_text(rng), name="find_river") for _ in calls]
        thinking = make_text(rng) if rng.random() < 0.3 else ""
        messages.append(Message("assistant", make_text(rng), thinking=thinking))
    return Conversation(tuple(messages), (TOOL,) if has_tools else ())


def make_text(rng: random.Random, words: Sequence[str] = WORDS) -> str:
    text = " ".join(rng.choices(words, k=rng.randint(1, 12)))
    return rng.choice(["", " ", "\n"]) + text + rng.choice(["", "", " ", "\n\n"])


def _make_call(rng: random.Random) -> dict:
    function = {
        "name": "find_river",
        "arguments": {"name": make_text(rng), "count": rng.randint(1, 9)},
    }
    return {"type": "function", "function": function}
