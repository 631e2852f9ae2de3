"""Parameters and floating point operations of a Transformer, computed from its config.

Operations are counted as torch.utils.flop_counter does: two for a multiply-add of a matrix product, none for anything
else. Attention counts as full T x S products, also where it is causal or has a window, although kernels may then skip
a part of it. The backward pass has two products for each of the forward pass (Kaplan et al. 2020, arXiv 2001.08361);
the scores that a fused kernel computes once more in it are not counted.

Legend: B sequences, T tokens, S tokens of the source, C width, V vocabulary.
"""

from collections import Counter
from dataclasses import dataclass

from gptexp.model.config import TransformerConfig


@dataclass(frozen=True)
class Flops:
    """Floating point operations over one batch."""

    forward: int
    training: int  # forward, backward, and recomputed activations
    tokens: int  # of the batch and of its sources

    @property
    def training_per_token(self) -> float:
        return self.training / self.tokens


def count_parameters(config: TransformerConfig) -> int:
    """Count the parameters of Transformer(config), exactly."""
    attentions, feed_forwards = count_layers(config)
    norms = (attentions + feed_forwards + 1 + (config.encoder_layers > 0)) * (
        1 if config.norm == "rms" else 2
    )
    tied = config.predicts_features or (config.tie_embeddings and not config.num_token_classes)
    rows = 0 if tied else config.vocab_size  # a tied head is one of the linear layers
    rows += config.context if config.position == "learned" else 0
    rows += config.predicts_features  # the embedding of a masked row
    return (
        count_linear_parameters(config)
        + (rows + norms) * config.d_model
        + attentions * 2 * config.head_dim * config.qk_norm
    )


def count_active_parameters(config: TransformerConfig) -> int:
    """Count the parameters that compute one token: all but the experts that it is not sent to."""
    idle = max(0, config.experts - config.experts_per_token)
    _, feed_forwards = count_layers(config)
    return (
        count_parameters(config)
        - feed_forwards * idle * count_feed_forward_matrices(config) * config.d_model * config.d_ff
    )


def count_flops(
    config: TransformerConfig,
    batch: int,
    tokens: int,
    *,
    source: int = 0,
    targets: int | None = None,
    activation_checkpointing: str = "none",
) -> Flops:
    """Count the operations for a batch [B, T], and sources [B, S] of an encoder with decoder.

    Args:
        targets: tokens of the batch that the head is applied to; None: all.
        activation_checkpointing: with full, the backward pass computes the blocks' activations again. It stops before
            the last product of a block, whose result is not needed, unless it has dropout or the weights of experts.
            With selective it computes no product again, but attention where that has dropout.

    Raises:
        ValueError: the model cannot have such a batch.
    """
    targets = check_batch(config, batch, tokens, source, targets)
    blocks = config.layers * count_block_products(config, tokens, source)
    blocks += config.encoder_layers * count_block_products(config, source)
    rows = config.layers * tokens + config.encoder_layers * source
    last_products = config.shared_experts if config.experts else 1
    spared = 0 if config.dropout else rows * last_products * config.d_model * config.d_ff
    head = config.d_model * (
        targets * (config.num_token_classes or config.vocab_size)
        + batch * 4 * config.num_sequence_classes
    )
    forward = 2 * (batch * blocks + head)
    recomputed = 0
    if activation_checkpointing == "full":
        recomputed = 2 * batch * (blocks - spared)
    elif activation_checkpointing == "selective" and config.dropout:
        pairs = config.layers * tokens * (tokens + source) + config.encoder_layers * source**2
        recomputed = 2 * batch * 2 * pairs * projection_widths(config)[1]
    return Flops(forward, 3 * forward + recomputed, batch * (tokens + source))


def count_layers(config: TransformerConfig) -> tuple[int, int]:
    """Count the attentions and the feed-forwards; before each is a norm."""
    return config.layers + 2 * config.encoder_layers, config.layers + config.encoder_layers


def projection_widths(config: TransformerConfig) -> tuple[int, int, int]:
    """Return the width of a token, of its queries, and of its keys, which is that of its values."""
    return config.d_model, config.heads * config.head_dim, config.kv_heads * config.head_dim


def count_feed_forward_matrices(config: TransformerConfig) -> int:
    """Count the matrices of a feed-forward."""
    return 3 if config.feed_forward == "swiglu" else 2


def count_matrices(config: TransformerConfig) -> Counter[tuple[int, int]]:
    """Count the matrices of the blocks by their shapes."""
    width, queries, keys = projection_widths(config)
    attentions, feed_forwards = count_layers(config)
    shapes: Counter[tuple[int, int]] = Counter()
    shapes[queries, width] += attentions
    shapes[keys, width] += 2 * attentions
    shapes[width, queries] += attentions
    experts = {config.d_ff: config.experts or 1}  # inner width -> feed-forwards of a block
    if config.experts:
        shapes[config.experts, width] += feed_forwards  # routers
        if config.shared_experts:  # one feed-forward as wide as all of them
            shared = config.shared_experts * config.d_ff
            experts[shared] = experts.get(shared, 0) + 1
    for inner, count in experts.items():
        shapes[inner, width] += feed_forwards * count * (count_feed_forward_matrices(config) - 1)
        shapes[width, inner] += feed_forwards * count
    return shapes


def count_linear_parameters(config: TransformerConfig) -> int:
    """Count the weights and biases of all linear layers, those of the heads included."""
    shapes = count_matrices(config)
    blocks = sum(
        count * rows * (columns + config.bias) for (rows, columns), count in shapes.items()
    )
    predicted = config.feature_size * config.feature_bins + 1 if config.predicts_features else 0
    features = config.feature_size * config.d_model + config.d_model if config.feature_size else 0
    heads = config.d_model * (config.num_token_classes or config.vocab_size) + (
        config.num_sequence_classes * (4 * config.d_model + 1)
    )
    return blocks + heads + features + predicted * (config.d_model + 1)


def count_block_products(config: TransformerConfig, tokens: int, source: int = 0) -> int:
    """Count the multiply-adds of one block for one sequence [T], with its cross-attention to a source [S]."""
    width, query_width, key_width = projection_widths(config)
    experts = config.experts_per_token + config.shared_experts if config.experts else 1
    products = (
        tokens
        * width
        * (experts * count_feed_forward_matrices(config) * config.d_ff + config.experts)
    )
    for keys in (tokens, source) if source else (tokens,):
        projections = tokens * width * query_width + keys * width * key_width
        products += 2 * (projections + tokens * keys * query_width)
    return products


def check_batch(
    config: TransformerConfig, batch: int, tokens: int, source: int, targets: int | None
) -> int:
    """Check the sizes of a batch and return its number of targets."""
    if config.feature_size:
        raise ValueError(
            f"feature_size={config.feature_size}: only parameters are counted for models with features"
        )
    if max(tokens, source) > config.context:
        raise ValueError(
            f"{max(tokens, source)} tokens do not fit into a context of {config.context}"
        )
    if (source > 0) != (config.arch == "encoder_decoder"):
        raise ValueError(
            f"source={source} with arch={config.arch}: an encoder_decoder has a source, no other has one"
        )
    targets = batch * tokens if targets is None else targets
    if min(batch, tokens) < 1 or not 0 <= targets <= batch * tokens:
        raise ValueError(
            f"batch={batch}, tokens={tokens}, targets={targets}: batch and tokens must be at least 1, "
            f"and targets at most batch x tokens"
        )
    return targets
