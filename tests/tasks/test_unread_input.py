import pytest
from models import SHAPE

from gptexp.config import schema
from gptexp.data import tokenizers
from gptexp.model import TransformerConfig
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.layout import PromptCompletion
from gptexp.tasks.mlm import FillMasks, MaskedStream
from gptexp.tasks.nsp import ClassifyPairs, SentencePair
from gptexp.tasks.pretrain import TextStream
from gptexp.tasks.term_tags import TagTerms, TermTags
from gptexp.tasks.unread_input import describe_unread_input

CONTEXT = 20


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build(schema.CharConfig(), ["abcdefgh "])


def describe(kind: str, text: str, tokenizer, max_new_tokens: int | None = None) -> str:
    completion = PromptCompletion(CONTEXT, max_target_tokens=9)
    stream, pair = TextStream(CONTEXT, max_new_tokens=8), SentencePair(CONTEXT)
    layout, answerer = {
        "source and target": (completion, GenerateText(completion, 9)),
        "text": (stream, GenerateText(stream, 8)),
        "terms": (TermTags(CONTEXT), TagTerms(CONTEXT)),
        "masks": (MaskedStream(CONTEXT, schema.MlmConfig()), FillMasks(CONTEXT)),
        "pair": (pair, ClassifyPairs(pair, "nsp")),
    }[kind]
    config = TransformerConfig(**SHAPE | {"context": CONTEXT})
    return describe_unread_input(layout, answerer, text, tokenizer, config, max_new_tokens)


@pytest.mark.parametrize(
    ("kind", "text", "losses"),
    [
        ("source and target", "abc", ""),
        ("source and target", "abc" * 5, "its source is cut by 5 tokens (model.context=20 and"),
        ("source and target", "aBc", "1 character without a token: 'B' 1"),
        ("source and target", "a<|sep|>", "<|sep|> is read as text, not as a special token"),
        ("text", "a" * 12, ""),
        ("text", "a" * 15, "its beginning is cut by 3 tokens (model.context=20 leaves 12"),
        ("text", "日本 a", "2 characters without a token"),
        ("terms", "a" * 23, "its source is cut by 3 tokens (model.context=20)"),
        ("masks", "ab <|mask|> cd", ""),
        ("masks", "ab <|mask|> XY", "2 characters without a token: 'X' 1, 'Y' 1"),
        ("masks", "a" * 19 + "<|mask|>b", "its text is cut by 1 tokens"),
        ("pair", "ab <|sep|> cd", ""),
        ("pair", "ab <|sep|> " + "a" * 12, "its second half is cut by 3 tokens"),
    ],
)
def test_a_prompt_says_what_the_model_does_not_read(tokenizer, kind, text, losses):
    described = describe(kind, text, tokenizer)
    assert losses in described
    assert bool(described) == bool(losses)


def test_a_longer_answer_leaves_less_room_for_the_prompt(tokenizer):
    assert "is cut by 5 tokens" in describe("text", "a" * 10, tokenizer, max_new_tokens=15)
