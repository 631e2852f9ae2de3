"""What a Transformer costs, by arithmetic from its config: parameters, floating point operations, bytes.

Operations are counted as torch.utils.flop_counter does: two for a multiply-add of a matrix product, none for anything
else. Attention counts as whole T x S products, also where it is causal, although kernels then skip up to half of it.
The backward pass has two products for each of the forward pass (Kaplan et al. 2020, arXiv 2001.08361); the scores that
a fused kernel computes once more in it are not counted. Bytes are those that the operations of this code hold for the
backward pass, one by one, as Korthikanti et al. 2022 (arXiv 2205.05198) count them.

Legend: B sequences, T tokens, S tokens of the source, C width, V vocabulary.
"""

from collections import Counter
from dataclasses import dataclass

from gptexp.model.attention import EAGER_ATTENTION_MAX_SCORES
from gptexp.model.config import TransformerConfig

MUON_STACK = 1 << 26  # MAX_STACKED_ELEMENTS of training/muon.py


@dataclass(frozen=True)
class Flops:
    """Floating point operations over one batch."""

    forward: int
    training: int  # forward, backward, and what is computed again
    tokens: int  # read, those of the source too

    @property
    def forward_per_token(self) -> float:
        return self.forward / self.tokens

    @property
    def training_per_token(self) -> float:
        return self.training / self.tokens


@dataclass(frozen=True)
class Memory:
    """Bytes on one device in a training step, besides what its driver and the exchange of gradients take."""

    weights: int  # in fp32
    copies: int  # in bf16, of the linear layers' weights: autocast makes them once a step
    gradients: int  # in fp32
    optimizer: int  # its state
    activations: (
        int  # kept for the backward pass; where it computes them again, the inputs of the blocks
    )
    logits: int  # with their gradients
    block: int  # activations of one with their gradients; or the gradients of an embedding that the head shares
    workspace: int  # of the optimizer's step
    activation_checkpointing: bool
    accumulates: bool  # gradients of earlier micro-batches are there already

    @property
    def total(self) -> int:
        """The peak: where the backward pass begins, where it ends, or in the optimizer's step.

        In between, gradients take the place of activations. Those of the copies wait for the end of the backward pass
        in all micro-batches but the first: autocast made the copies before.
        """
        begins = (
            self.activations
            + max(self.logits, self.block * self.activation_checkpointing)
            + self.gradients * self.accumulates
        )
        ends = self.gradients + self.copies * self.accumulates + self.block
        at_most = max(begins, ends, self.gradients + self.workspace)
        return self.weights + self.copies + self.optimizer + at_most


def parameters(config: TransformerConfig) -> int:
    """Exactly as many as Transformer(config) has."""
    attentions, feed_forwards = _layers(config)
    norms = (attentions + feed_forwards + 1 + (config.encoder_layers > 0)) * (
        1 if config.norm == "rms" else 2
    )
    tied = config.predicts_features or (config.tie_embeddings and not config.num_token_classes)
    rows = 0 if tied else config.vocab_size  # the tied head's are among the linear layers'
    rows += config.context if config.position == "learned" else 0
    rows += config.predicts_features  # stands for one that is hidden
    return (
        _linear(config)
        + (rows + norms) * config.d_model
        + attentions * 2 * config.head_dim * config.qk_norm
    )


def flops(
    config: TransformerConfig,
    batch: int,
    tokens: int,
    *,
    source: int = 0,
    targets: int | None = None,
    activation_checkpointing: bool = False,
) -> Flops:
    """Operations for a batch [B, T], and sources [B, S] of an encoder with decoder.

    Args:
        targets: tokens of the batch that the head is applied to; None: all.
        recomputes: the backward pass computes the blocks' activations again. It stops before the last product of a
            block, whose result is not needed, unless there is dropout on it.

    Raises:
        ValueError: the model cannot have such a batch.
    """
    targets = _checked(config, batch, tokens, source, targets)
    blocks = config.layers * _block_products(config, tokens, source)
    blocks += config.encoder_layers * _block_products(config, source)
    rows = config.layers * tokens + config.encoder_layers * source
    spared = 0 if config.dropout else rows * config.d_model * config.d_ff
    head = config.d_model * (
        targets * (config.num_token_classes or config.vocab_size)
        + batch * 4 * config.num_sequence_classes
    )
    forward = 2 * (batch * blocks + head)
    again = 2 * batch * (blocks - spared) if activation_checkpointing else 0
    return Flops(forward, 3 * forward + again, batch * (tokens + source))


def memory(
    config: TransformerConfig,
    batch: int,
    tokens: int,
    *,
    source: int = 0,
    targets: int | None = None,
    optimizer: str = "muon",
    bf16: bool = False,
    activation_checkpointing: bool = False,
    on_gpu: bool = True,
    masked: bool | None = None,
    accumulates: bool = False,
) -> Memory:
    """Bytes to train on a micro-batch [B, T], and sources [B, S] of an encoder with decoder.

    Args:
        targets: tokens of the batch that the head is applied to; None: all.
        optimizer: muon (one moment of the blocks' matrices, two of the rest), or adamw (two of all).
        bf16: under autocast.
        recomputes: the blocks' activations are computed again in the backward pass.
        on_gpu: attention, RMSNorm and dropout are fused there, which is what is assumed.
        masked: attention has a mask [B, 1, T, T]; None: as `arch` needs it.
        accumulates: this is not the only micro-batch of a step, or gradients have buffers that stay (DDP).

    Raises:
        ValueError: the model cannot have such a batch, or the optimizer is not known.
    """
    targets = _checked(config, batch, tokens, source, targets)
    everything, shapes = parameters(config), _matrices(config)
    state, workspace = 8 * everything, 0
    if optimizer == "muon":
        number = 2 if on_gpu or bf16 else 4
        state -= 4 * sum(count * rows * columns for (rows, columns), count in shapes.items())
        workspace = max(  # directions, their stack, two iterates and two products of them (training/muon.py)
            min(count, max(1, MUON_STACK // (rows * columns)))
            * ((8 + 2 * number) * rows * columns + 2 * number * min(rows, columns) ** 2)
            for (rows, columns), count in shapes.items()
        )
    elif optimizer != "adamw":
        raise ValueError(f"optimizer={optimizer}: not known. Allowed: muon, adamw")
    masked = config.arch == "prefix" if masked is None else masked
    kept = ActivationMemory(config, batch, bf16, on_gpu)
    outputs = config.num_token_classes or config.vocab_size
    block = kept.largest_block(tokens, source, masked)
    if (
        config.tie_embeddings and not config.num_token_classes
    ):  # the head's gradient waits for the embedding's, to be added
        block = max(block, 4 * config.d_model * outputs * ((1 if bf16 else 2) + accumulates))
    return Memory(
        weights=4 * everything,
        copies=2 * _linear(config) if bf16 else 0,
        gradients=4 * everything,
        optimizer=state,
        activations=kept.whole(tokens, source, targets, masked, activation_checkpointing),
        logits=12 * targets * outputs,  # log-softmax, its gradient, that of the logits
        block=block,
        workspace=workspace,
        activation_checkpointing=activation_checkpointing,
        accumulates=accumulates,
    )


def cache_bytes(
    config: TransformerConfig, batch: int, tokens: int, source: int = 0, number: int = 4
) -> int:
    """Keys and values of B sequences of T tokens, with those of S source tokens; `number` bytes each."""
    _checked(config, batch, tokens, source, None)
    return (
        2 * config.layers * batch * (tokens + source) * config.kv_heads * config.head_dim * number
    )


@dataclass(frozen=True)
class ActivationMemory:
    """Bytes that autograd keeps for the backward pass. The residual stream and the norms are in fp32, always."""

    config: TransformerConfig
    batch: int
    bf16: bool
    on_gpu: bool

    def whole(
        self, tokens: int, source: int, targets: int, masked: bool, activation_checkpointing: bool
    ) -> int:
        """From the embedding to the head."""
        config, width = self.config, self.config.d_model
        rows, source_rows = self.batch * tokens, self.batch * source
        if activation_checkpointing:
            blocks = 4 * width * (config.layers * rows + config.encoder_layers * source_rows)
        else:
            blocks = config.layers * self.block(
                tokens, source, masked
            ) + config.encoder_layers * self.block(source)
        encoded = (
            4 * width * source_rows if activation_checkpointing or not self.bf16 else 0
        )  # else there are copies for each layer
        embedded, last_norms = (
            self.dropped(rows + source_rows, 4),
            self.norm(rows + source_rows, width, config.norm),
        )
        heads = self.number * width * targets
        if config.num_sequence_classes:
            heads += 2 * rows  # which tokens are of which part
        return embedded + blocks + encoded + last_norms + heads

    def largest_block(self, tokens: int, source: int, masked: bool) -> int:
        """The larger of a decoder's and an encoder's, with the gradients inside a feed-forward."""
        gradients = (
            (1 if self.config.feed_forward == "gelu" else 2)
            * self.number
            * self.batch
            * self.config.d_ff
        )
        decodes = self.block(tokens, source, masked) + gradients * tokens
        return max(decodes, self.block(source) + gradients * source if source else 0)

    @property
    def number(self) -> int:
        return 2 if self.bf16 else 4

    def block(self, tokens: int, source: int = 0, masked: bool = False) -> int:
        config, rows, is_gated = (
            self.config,
            self.batch * tokens,
            self.config.feed_forward == "swiglu",
        )
        kept = self.attention(tokens, tokens, masked) + (
            self.attention(tokens, source, False) if source else 0
        )
        inputs = 2 * (1 + is_gated) if self.bf16 else 4
        inner = (4 if is_gated else 2) * self.number
        if config.feed_forward == "relu2" and self.bf16 and self.on_gpu:
            inner += 4  # autocast squares in fp32 there
        kept += self.norm(rows, config.d_model, config.norm) + rows * (
            inputs * config.d_model + inner * config.d_ff
        )
        return kept + self.dropped(rows, self.number)

    def attention(self, tokens: int, seen: int, masked: bool) -> int:
        """T tokens look at S, after a norm."""
        config, (width, queries, keys) = self.config, _widths(self.config)
        rows, seen_rows = self.batch * tokens, self.batch * seen
        kept = self.norm(rows, width, config.norm) + self.dropped(rows, self.number)
        # Autocast copies the input for each linear layer. Without it, what an encoder has made is there once for all.
        kept += 2 * width * rows + 4 * width * seen_rows if self.bf16 else 4 * width * rows
        if config.qk_norm:
            size = config.head_dim
            kept += self.norm(rows * config.heads, size, "rms") + self.norm(
                seen_rows * config.kv_heads, size, "rms"
            )
        is_formula = self.bf16 and tokens * seen <= EAGER_ATTENTION_MAX_SCORES  # see attention.py
        if not self.on_gpu and (
            is_formula or config.dropout
        ):  # in single steps, and each head with keys of its own
            scores = rows * config.heads * seen * (3 if config.dropout else 1)
            kept += (2 if is_formula else 4) * (queries * (rows + 2 * seen_rows) + scores)
            return kept + self.number * queries * rows
        mask = rows * seen * masked
        return (
            kept
            + self.number * (2 * queries * rows + 2 * keys * seen_rows + mask)
            + 4 * config.heads * rows
        )

    def norm(self, rows: int, width: int, kind: str) -> int:
        """The input and what it is divided by; on a CPU, RMSNorm's single steps keep the quotient too."""
        if kind == "layer":
            return rows * (4 * width + 8)
        return rows * (4 * width * (1 if self.on_gpu else 2) + 4)

    def dropped(self, rows: int, number: int) -> int:
        """What dropout keeps of [rows, C]: on a CPU in numbers of the input's size."""
        return (
            rows * self.config.d_model * (1 if self.on_gpu else number)
            if self.config.dropout
            else 0
        )


def _layers(config: TransformerConfig) -> tuple[int, int]:
    """How many attentions there are, and how many feed-forwards; before each is a norm."""
    return config.layers + 2 * config.encoder_layers, config.layers + config.encoder_layers


def _widths(config: TransformerConfig) -> tuple[int, int, int]:
    """Of a token, of its queries, and of its keys, which is that of its values."""
    return config.d_model, config.heads * config.head_dim, config.kv_heads * config.head_dim


def _matrices(config: TransformerConfig) -> Counter[tuple[int, int]]:
    """How many of each shape the blocks have."""
    width, queries, keys = _widths(config)
    attentions, feed_forwards = _layers(config)
    shapes: Counter[tuple[int, int]] = Counter()
    shapes[queries, width] += attentions
    shapes[keys, width] += 2 * attentions
    shapes[width, queries] += attentions
    shapes[config.d_ff, width] += feed_forwards * (2 if config.feed_forward == "swiglu" else 1)
    shapes[width, config.d_ff] += feed_forwards
    return shapes


def _linear(config: TransformerConfig) -> int:
    """Weights and biases of the linear layers, the heads too."""
    shapes = _matrices(config)
    blocks = sum(
        count * rows * (columns + config.bias) for (rows, columns), count in shapes.items()
    )
    said = config.feature_size * config.feature_bins + 1 if config.predicts_features else 0
    features = config.feature_size * config.d_model + config.d_model if config.feature_size else 0
    heads = config.d_model * (config.num_token_classes or config.vocab_size) + (
        config.num_sequence_classes * (4 * config.d_model + 1)
    )
    return blocks + heads + features + said * (config.d_model + 1)


def _block_products(config: TransformerConfig, tokens: int, source: int = 0) -> int:
    """Multiply-adds of one block for one sequence [T]; with a source [S], of its cross-attention too."""
    width, queries, keys = _widths(config)
    products = tokens * (3 if config.feed_forward == "swiglu" else 2) * width * config.d_ff
    for seen in (tokens, source) if source else (tokens,):
        products += 2 * (tokens * width * queries + seen * width * keys + tokens * seen * queries)
    return products


def _checked(
    config: TransformerConfig, batch: int, tokens: int, source: int, targets: int | None
) -> int:
    """How many targets there are."""
    if config.feature_size:
        raise ValueError(
            f"feature_size={config.feature_size}: only the parameters of such a model are counted"
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
            f"batch={batch}, tokens={tokens}, targets={targets}: 1 or more, and a target for a token"
        )
    return targets
