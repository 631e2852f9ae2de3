import pytest
import torch
from models import EXPERTS, GPT2, SHAPE, a_model
from torch.nn import functional as F

from gptexp.model import SequenceLayout, Transformer, TransformerConfig
from gptexp.model.attention import Attention, AttentionContext
from gptexp.model.feed_forward import FeedForward
from gptexp.model.masks import AttentionMask

MODELS = [{}, GPT2, {"feed_forward": "relu2", "tie_embeddings": False}, EXPERTS]


@pytest.mark.parametrize("switches", MODELS)
def test_a_token_depends_on_those_before_it_only(switches):
    model, tokens = a_model(**switches), torch.randint(50, (2, 12))
    changed = tokens.clone()
    changed[:, 8:] = 0
    one, two = model(tokens), model(changed)
    torch.testing.assert_close(one[:, :8], two[:, :8])
    assert not torch.allclose(one[:, 8:], two[:, 8:])
    order = model(tokens[:, [1, 0, *range(2, 12)]])
    assert not torch.allclose(order[:, -1], one[:, -1])  # positions matter


@pytest.mark.parametrize(("pattern", "seen"), [("S", 5), ("SL", 12), ("L", 12)])
def test_a_window_limits_how_far_a_layer_looks_back(pattern, seen):
    model, tokens = a_model(window=3, window_pattern=pattern), torch.randint(50, (1, 12))
    last = model(tokens)[0, -1]
    for place in range(12):
        changed = tokens.clone()
        changed[0, place] = (tokens[0, place] + 1) % 50
        is_seen = place >= 12 - seen  # each layer with a window reaches two tokens further back
        assert is_seen != torch.equal(model(changed)[0, -1], last)


@pytest.mark.parametrize("switches", MODELS)
def test_documents_of_a_window_do_not_see_each_other(switches):
    model = a_model(**{**switches, "position": "rotary"})  # rotary: positions count from anywhere
    first, second = torch.randint(50, (1, 5)), torch.randint(50, (1, 7))
    documents = torch.tensor([[0] * 5 + [1] * 7])
    packed = model(torch.cat([first, second], dim=1), SequenceLayout(documents=documents))
    torch.testing.assert_close(packed[:, :5], model(first), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed[:, 5:], model(second), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("switches", MODELS)
def test_left_padding_and_the_cache_change_nothing(switches):
    model, tokens = a_model(**switches), torch.randint(50, (1, 9))
    expected = model(tokens)
    padded = F.pad(tokens, (3, 0), value=7)
    cache = model.new_cache(1, 12)
    layout = SequenceLayout(left_padding=torch.tensor([3]))
    parts = [model(padded[:, a:b], layout, cache=cache) for a, b in ((0, 6), (6, 7), (7, 12))]
    torch.testing.assert_close(torch.cat(parts, dim=1)[:, 3:], expected, atol=1e-5, rtol=1e-4)


def test_the_loss_sums_over_targets_and_ignores_padding():
    model, tokens = a_model(), torch.randint(50, (3, 6))
    targets = torch.randint(50, (3, 6))
    expected = F.cross_entropy(
        model.head(model(tokens)).view(-1, 50), targets.view(-1), reduction="sum"
    )
    torch.testing.assert_close(model.loss(tokens, targets).targets, expected)
    longer = model.loss(F.pad(tokens, (0, 4)), F.pad(targets, (0, 4), value=-100)).targets
    torch.testing.assert_close(longer, expected)
    nothing = model.loss(tokens, torch.full_like(targets, -100)).targets
    assert nothing.item() == 0
    nothing.backward()  # an all-masked micro-batch has a gradient of zero, not NaN
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="25 tokens do not fit into a context of 24"):
        a_model()(torch.zeros(1, 25, dtype=torch.long))


ARCHS = [
    {"arch": "encoder"},
    {"arch": "encoder", **GPT2},
    {"arch": "prefix"},
    {"arch": "prefix", **GPT2},
]


@pytest.mark.parametrize("switches", ARCHS)
def test_bidirectional_tokens_see_what_follows_and_no_padding(switches):
    model, tokens = a_model(**switches), torch.randint(50, (1, 9))
    known = torch.tensor([6])
    layout = SequenceLayout(**{"prefix" if switches["arch"] == "prefix" else "lengths": known})
    changed = tokens.clone()
    changed[:, 5] = (tokens[:, 5] + 1) % 50
    assert not torch.allclose(model(tokens, layout)[:, 0], model(changed, layout)[:, 0])
    changed = tokens.clone()
    changed[:, 6:] = 0
    torch.testing.assert_close(model(tokens, layout)[:, :6], model(changed, layout)[:, :6])


@pytest.mark.parametrize("switches", [{}, {**GPT2, "position": "sinusoidal"}])
def test_a_decoder_with_an_encoder_reads_the_source_and_pads_nothing_into_the_loss(switches):
    model = a_model(arch="encoder_decoder", **switches)
    tokens, targets = torch.randint(50, (2, 12)), torch.full((2, 12), -100)
    prefix = torch.tensor([4, 7])
    for row, (given, end) in enumerate(((4, 9), (7, 12))):
        targets[row, given - 1 : end] = torch.randint(50, (end - given + 1,))
    together = model.loss(tokens, targets, prefix=prefix).targets
    alone = torch.zeros(())
    for row, given in enumerate(prefix.tolist()):
        source = tokens[row : row + 1, :given]
        memory = model.encode(source, prefix[row : row + 1])
        logits = model.head(model(tokens[row : row + 1, given - 1 :], memory=memory))[0]
        alone = alone + F.cross_entropy(
            logits, targets[row, given - 1 :], reduction="sum", ignore_index=-100
        )
    torch.testing.assert_close(together, alone)
    changed = tokens.clone()
    changed[0, 0] = (tokens[0, 0] + 1) % 50
    assert not torch.allclose(model.loss(changed, targets, prefix=prefix).targets, together)


def test_labels_and_tags_have_heads_of_their_own():
    model = a_model(arch="encoder", num_sequence_classes=2, num_token_classes=3)
    tokens, tags, labels = (
        torch.randint(50, (4, 6)),
        torch.randint(3, (4, 6)),
        torch.tensor([0, 1, -100, 1]),
    )
    sizes = {"prefix": torch.tensor([2, 3, 2, 4]), "lengths": torch.tensor([6, 5, 4, 6])}
    of_tags, of_labels, *_ = model.loss(tokens, tags, labels=labels, **sizes)
    hidden = model(tokens, SequenceLayout(lengths=sizes["lengths"]))
    torch.testing.assert_close(
        of_tags, F.cross_entropy(model.head(hidden).flatten(0, 1), tags.flatten(), reduction="sum")
    )
    expected = torch.zeros(())
    for row in (0, 1, 3):
        given, end = int(sizes["prefix"][row]), int(sizes["lengths"][row])
        first, second = hidden[row, :given].mean(dim=0), hidden[row, given:end].mean(dim=0)
        logits = model.class_head(
            torch.cat((first, second, first * second, (first - second).abs()))
        )
        expected = expected + F.cross_entropy(logits, labels[row], reduction="sum")
    torch.testing.assert_close(of_labels, expected)


class Doubled(Attention):
    def forward(self, x, context):
        return 2 * super().forward(x, context)


class NoFeedForward(FeedForward):
    def forward(self, x):
        return torch.zeros_like(x)


class Variant(Transformer):
    attention_class = Doubled
    feed_forward_class = NoFeedForward


def test_a_subclass_names_the_classes_of_its_parts():
    plain, variant = a_model(), Variant(TransformerConfig(**SHAPE)).eval()
    variant.load_state_dict(plain.state_dict())
    x, context = torch.randn(1, 5, 32), AttentionContext(AttentionMask(is_causal=True))
    block = plain.blocks[0]
    expected = x + 2 * block.attention(block.attention_norm(x), context)
    torch.testing.assert_close(variant.blocks[0](x, context), expected)
    with pytest.raises(ValueError, match="experts do not use the feed_forward_class of Variant"):
        Variant(TransformerConfig(**SHAPE, experts=4))


def test_a_subclass_computes_another_loss_of_the_tokens():
    class Counting(Transformer):
        def token_loss(self, logits, targets):
            assert logits.shape == (len(targets), SHAPE["vocab_size"])
            return targets.float().sum()

    torch.manual_seed(0)
    tokens = torch.randint(SHAPE["vocab_size"], (2, 6))
    targets = tokens.masked_fill(torch.rand(2, 6) < 0.5, -100)
    sums = Counting(TransformerConfig(**SHAPE)).loss(tokens, targets)
    assert sums.targets == targets[targets >= 0].sum()
