"""Memory of a Transformer in training and in generation, computed from its config.

Bytes are those that the operations of this code keep for the backward pass, one by one, as Korthikanti et al. 2022
(arXiv 2205.05198) count them.

Legend: B sequences, T tokens, S tokens of the source, C width, V vocabulary.
"""

from dataclasses import dataclass, replace

from gptexp.model.attention import EAGER_ATTENTION_MAX_SCORES
from gptexp.model.config import TransformerConfig
from gptexp.model.cost import (
    check_batch,
    count_feed_forward_matrices,
    count_layers,
    count_linear_parameters,
    count_matrices,
    count_parameters,
    projection_widths,
)
from gptexp.model.token_loss import count_chunk_rows

MUON_STACK = (
    1 << 26
)  # equal to MAX_STACKED_ELEMENTS of training/muon.py, which model/ cannot import


@dataclass(frozen=True)
class Memory:
    """Bytes on one device in a training step, without those of its driver and of DDP's exchange of gradients.

    weights, gradients: in fp32; with FSDP2, those of this rank's shard.
    autocast_cache: copies in bf16 of the linear layers' weights, which autocast makes once a step; with FSDP2 on a GPU
        those of the head alone, since it gathers those of blocks in bf16.
    optimizer: state of the optimizer.
    activations: kept for the backward pass (see activation_checkpointing.py).
    logits: of the tokens that are computed at once, with their gradients; of several chunks, with the head's gradient.
    head_gradient: which waits for the backward pass where the head computes several chunks.
    block: activations of one block with their gradients.
    recomputed: the part of `block` that activation checkpointing has not kept.
    embedding: the gradients of an embedding that the head shares.
    gathered: parameters outside of blocks that FSDP2 has gathered.
    exchanged: parameters of two blocks that FSDP2 has gathered, and gradients of two that it has not sharded yet.
    workspace: of the optimizer's step.
    accumulated: gradients of earlier micro-batches.
    """

    weights: int
    autocast_cache: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    head_gradient: int
    block: int
    recomputed: int
    embedding: int
    gathered: int
    exchanged: int
    workspace: int
    accumulated: int

    @property
    def total(self) -> int:
        """The peak, which is at one of the `moments`."""
        return max(sum(parts.values()) for parts in self.moments().values())

    def moments(self) -> dict[str, dict[str, int]]:
        """Return the parts that lie in memory at each moment at which the peak can be.

        In between, gradients replace activations. The gradients of the autocast cache wait for the end of the backward
        pass in all micro-batches but the first, which made the cache.
        """
        always = {
            "weights": self.weights,
            "copies of weights in bf16": self.autocast_cache,
            "optimizer": self.optimizer,
        }
        gradients = self.gradients + (self.autocast_cache if self.accumulated else 0)
        activations, exchange = self.block, self.gathered + self.exchanged
        if self.embedding + self.gathered > self.block + self.exchanged:
            gradients += self.embedding
            activations, exchange = 0, 2 * self.gathered
        return {
            "start of the backward pass": always
            | {
                "gradients": self.accumulated,
                "activations": self.activations,
                "logits": max(self.logits, self.head_gradient + self.recomputed),
                "exchange between devices": self.gathered + self.exchanged,
            },
            "end of the backward pass": always
            | {
                "gradients": gradients,
                "activations": activations,
                "exchange between devices": exchange,
            },
            "step of the optimizer": always
            | {"gradients": self.gradients, "workspace of the optimizer": self.workspace},
        }


def estimate_memory(
    config: TransformerConfig,
    batch: int,
    tokens: int,
    *,
    source: int = 0,
    targets: int | None = None,
    optimizer: str = "muon",
    bf16: bool = False,
    activation_checkpointing: str = "none",
    on_gpu: bool = True,
    masked: bool | None = None,
    accumulates: bool = False,
    shards: int = 1,
    keeps_full_gradients: bool = False,
    adapters: int = 0,
    trained: int | None = None,
) -> Memory:
    """Count the bytes for training on a micro-batch [B, T], and sources [B, S] of an encoder with decoder.

    Args:
        targets: tokens of the batch that the head is applied to; None: all.
        optimizer: muon (one moment of the blocks' matrices, two of the rest), or adamw (two of all).
        bf16: under autocast.
        activation_checkpointing: none, full or selective.
        on_gpu: attention, RMSNorm and dropout are fused.
        masked: attention has a mask [B, 1, T, T]; None: as `arch` needs it.
        accumulates: the step has several micro-batches, or gradients have buffers that stay (DDP).
        shards: ranks among which FSDP2 shards parameters, gradients and the state of the optimizer.
        keeps_full_gradients: FSDP2 shards the gradients once a step, and not once a micro-batch.
        adapters: parameters of LoRA's adapters. Activations are counted as if all weights were trained.
        trained: parameters that are trained, adapters included; None: all. The others need AdamW.

    Raises:
        ValueError: the model cannot have such a batch, or the optimizer is not known.
    """
    targets = check_batch(config, batch, tokens, source, targets)
    count, shapes = count_parameters(config), count_matrices(config)
    _, feed_forwards = count_layers(config)
    matrices_of_experts = feed_forwards * config.experts * count_feed_forward_matrices(config)
    stacked = matrices_of_experts * config.d_model * config.d_ff
    is_frozen = trained is not None
    trained = count if trained is None else trained
    state, workspace = 8 * trained, 0
    if optimizer == "muon":
        size = 2 if on_gpu or bf16 else 4  # bytes of a number in an iterate
        if config.experts:
            shapes[config.experts, config.d_model] -= feed_forwards  # routers
        state -= 4 * sum(matrices * rows * columns for (rows, columns), matrices in shapes.items())
        workspace = max(
            count_muon_workspace(shape, matrices, size, shards)
            for shape, matrices in shapes.items()
        )
    elif optimizer != "adamw":
        raise ValueError(f"optimizer={optimizer}: not known. Allowed: muon, adamw")
    masked = config.arch == "prefix" if masked is None else masked
    activations = ActivationMemory(config, batch, bf16, on_gpu, activation_checkpointing)
    outputs = config.num_token_classes or config.vocab_size
    head_rows = count_chunk_rows(targets, outputs, on_gpu)
    in_chunks = head_rows < targets
    has_head_gradient = in_chunks and (not is_frozen or bool(config.num_token_classes))
    head_gradient = 4 * config.d_model * outputs * has_head_gradient
    largest_block = activations.largest_block(tokens, source, masked)
    embedding = 0  # the gradient of a tied head waits for that of the embedding, to be added
    if config.tie_embeddings and not config.num_token_classes and not is_frozen:
        embedding = 4 * config.d_model * outputs * ((1 if bf16 else 2) + accumulates)
    gathered, exchanged, cached = 0, 0, count_linear_parameters(config) - stacked
    if shards > 1:
        cached = config.d_model * outputs if on_gpu else cached
        block, rest = divide_parameters(config)
        # A block computes while the next is gathered, and while the gradients of the one before are reduced in fp32.
        gathered, exchanged = 4 * rest, 2 * block * (2 + 3 if bf16 and on_gpu else 4 + 4)
    accumulated = 0
    if accumulates:
        accumulated = 4 * trained if keeps_full_gradients else 4 * trained // shards
    return Memory(
        weights=4 * (count + adapters) // shards,
        autocast_cache=2 * (cached + adapters) if bf16 else 0,
        gradients=4 * trained // shards,
        optimizer=state // shards,
        activations=activations.total(tokens, source, targets, masked, in_chunks),
        # Log-softmax, its gradient, that of the logits; the head's gradient of a chunk, and their sum.
        logits=12 * head_rows * outputs + head_gradient * (6 if bf16 else 8) // 4,
        head_gradient=head_gradient,
        block=largest_block,
        recomputed=activations.recomputed(largest_block, tokens, source),
        embedding=embedding,
        gathered=gathered,
        exchanged=exchanged,
        workspace=workspace,
        accumulated=accumulated,
    )


def count_muon_workspace(
    shape: tuple[int, int], matrices: int, number: int, shards: int = 1
) -> int:
    """Count the bytes of Muon's step for matrices of one shape, with iterates of `number` bytes (training/muon.py)."""
    rows, columns = shape
    fitting = max(1, MUON_STACK // (rows * columns))
    count = min(matrices, fitting * shards)  # of one stack, over all shards
    own = -(-count // shards)
    iterates = number * own * (3 * rows * columns + 2 * min(rows, columns) ** 2)
    return max(
        8 * count * rows * columns // shards, iterates
    )  # directions and their stack, or iterates and products


def divide_parameters(config: TransformerConfig) -> tuple[int, int]:
    """Count the parameters of the largest block, and those outside of blocks."""

    def of_one_layer(config: TransformerConfig) -> int:
        return count_parameters(replace(config, layers=2)) - count_parameters(
            replace(config, layers=1)
        )

    layer = of_one_layer(config)
    rest = count_parameters(config) - config.layers * layer
    if config.encoder_layers:  # the other block of a layer is one of the encoder
        layer -= of_one_layer(replace(config, arch="decoder"))
    return layer, rest


def count_cache_bytes(
    config: TransformerConfig, batch: int, tokens: int, source: int = 0, number: int = 4
) -> int:
    """Count the bytes of the KV cache of B sequences of T tokens and S source tokens, `number` bytes a number."""
    check_batch(config, batch, tokens, source, None)
    return (
        2 * config.layers * batch * (tokens + source) * config.kv_heads * config.head_dim * number
    )


@dataclass(frozen=True)
class ActivationMemory:
    """Bytes that autograd keeps for the backward pass. The residual stream and the norms are always in fp32."""

    config: TransformerConfig
    batch: int
    bf16: bool
    on_gpu: bool
    activation_checkpointing: str = "none"

    def total(self, tokens: int, source: int, targets: int, masked: bool, in_chunks: bool) -> int:
        """Count the bytes of the whole model, from the embedding to the head."""
        config, width = self.config, self.config.d_model
        rows, source_rows = self.batch * tokens, self.batch * source
        recomputes = self.activation_checkpointing != "none"
        if recomputes:
            blocks = 4 * width * (config.layers * rows + config.encoder_layers * source_rows)
            blocks += config.layers * self.kept(tokens, source)
            blocks += config.encoder_layers * self.kept(source)
        else:
            blocks = config.layers * self.block(
                tokens, source, masked
            ) + config.encoder_layers * self.block(source)
        # Under autocast each layer keeps a copy of its own of the encoder's states.
        encoded = 4 * width * source_rows if recomputes or not self.bf16 else 0
        embedded = self.dropout_mask(rows + source_rows, 4)
        last_norms = self.norm(rows + source_rows, width, config.norm)
        # The states of the targets, or of several chunks their gradient too.
        heads = (8 if in_chunks else self.bytes_per_number) * width * targets
        if config.num_sequence_classes:
            heads += 2 * rows  # masks of the two texts
        return embedded + blocks + encoded + last_norms + heads

    def largest_block(self, tokens: int, source: int, masked: bool) -> int:
        """Count the larger of a decoder's and an encoder's block, with the gradients inside a feed-forward."""
        of_decoder = self.block(tokens, source, masked) + self.gradients(self.batch * tokens)
        of_encoder = self.block(source) + self.gradients(self.batch * source) if source else 0
        return max(of_decoder, of_encoder)

    def gradients(self, rows: int) -> int:
        """Count the gradients inside a feed-forward or experts."""
        config = self.config
        inner = (1 if config.feed_forward == "gelu" else 2) * self.bytes_per_number * config.d_ff
        if not config.experts:
            return rows * inner
        # Of all experts' matrices before the activation, of one stack of them, and of the sorted inputs.
        weights = (
            4 * config.experts * config.d_model * config.d_ff * count_feed_forward_matrices(config)
        )
        return weights + rows * config.experts_per_token * (inner + 8 * config.d_model)

    def recomputed(self, block: int, tokens: int, source: int) -> int:
        """Count the part of a block's activations that are not kept: all without its input, with `full`."""
        if self.activation_checkpointing == "none":
            return 0
        return block - self.kept(tokens, source)

    def kept(self, tokens: int, source: int = 0) -> int:
        """Count the results of products and of attention that `selective` keeps of a block, besides its input."""
        if self.activation_checkpointing != "selective":
            return 0
        config, (width, queries, keys) = self.config, projection_widths(self.config)
        rows, key_rows = self.batch * tokens, [self.batch * tokens]
        key_rows += [self.batch * source] if source else []
        products = sum(rows * (queries + width) + 2 * keys * of_keys for of_keys in key_rows)
        layers = [config.d_ff]  # the inner widths of those that compute a token
        if config.experts:
            shared = [config.shared_experts * config.d_ff] if config.shared_experts else []
            layers = [config.d_ff] * config.experts_per_token + shared
        inner = count_feed_forward_matrices(config) - 1
        products += rows * (sum(inner * d_ff + width for d_ff in layers) + config.experts)
        attentions = len(key_rows) * rows
        size = self.bytes_per_number
        if not self._keeps_attention(tokens):
            return size * products
        return size * (products + attentions * queries) + 4 * attentions * config.heads

    def _keeps_attention(self, tokens: int) -> bool:
        """Return whether attention is one operation, and draws no random numbers."""
        is_eager = not self.on_gpu and self.bf16 and tokens * tokens <= EAGER_ATTENTION_MAX_SCORES
        return not (is_eager or self.config.dropout)

    @property
    def bytes_per_number(self) -> int:
        return 2 if self.bf16 else 4

    def block(self, tokens: int, source: int = 0, masked: bool = False) -> int:
        """Count one block, with cross-attention where there is a source."""
        config, rows = self.config, self.batch * tokens
        kept = self.attention(tokens, tokens, masked)
        kept += self.attention(tokens, source, False) if source else 0
        kept += self.norm(rows, config.d_model, config.norm) + self.feed_forward(rows)
        return kept + self.dropout_mask(rows, self.bytes_per_number)

    def feed_forward(self, rows: int) -> int:
        """Count a feed-forward, or experts with their router and their shared expert, without the norm before it."""
        config, width = self.config, self.config.d_model
        is_gated = config.feed_forward == "swiglu"
        inputs = 2 * (1 + is_gated) * width if self.bf16 else 4 * width
        inner = (4 if is_gated else 2) * self.bytes_per_number * config.d_ff
        if config.feed_forward == "relu2" and self.bf16 and self.on_gpu:
            inner += 4 * config.d_ff  # autocast squares in fp32 there
        if not config.experts:
            return rows * (inputs + inner)
        # Probabilities, the weights of the chosen and their sum, and three lists of integers that sort tokens.
        router = self.bytes_per_number * width + 4 * config.experts + 4
        chosen = inputs + inner + self.bytes_per_number * (width + 1) + 4 + 3 * 8
        kept = rows * (router + config.experts_per_token * chosen)
        if config.shared_experts:  # in fp32, they have the router's input
            kept += rows * (config.shared_experts * inner + (inputs if self.bf16 else 0))
        if (
            self.bf16
        ):  # autocast keeps copies of parameters, but each pass makes its own of parts of them
            experts = config.experts * count_feed_forward_matrices(config)
            kept += 2 * experts * width * config.d_ff
        return kept

    def attention(self, tokens: int, keys: int, masked: bool) -> int:
        """Count an attention of T tokens to S keys, and the norm before it."""
        config, (width, query_width, key_width) = self.config, projection_widths(self.config)
        rows, key_rows = self.batch * tokens, self.batch * keys
        kept = self.norm(rows, width, config.norm) + self.dropout_mask(rows, self.bytes_per_number)
        # Autocast copies the input for each linear layer. Without it, all layers share the encoder's states.
        kept += 2 * width * rows + 4 * width * key_rows if self.bf16 else 4 * width * rows
        if config.qk_norm:
            heads = rows * config.heads + key_rows * config.kv_heads
            kept += self.norm(heads, config.head_dim, "rms", self.bytes_per_number)
        is_eager = self.bf16 and tokens * keys <= EAGER_ATTENTION_MAX_SCORES  # see attention.py
        if not self.on_gpu and (is_eager or config.dropout):  # each head has keys of its own there
            scores = rows * config.heads * keys * (3 if config.dropout else 1)
            kept += (2 if is_eager else 4) * (query_width * (rows + 2 * key_rows) + scores)
            return kept + self.bytes_per_number * query_width * rows
        mask = rows * keys * masked
        return (
            kept
            + self.bytes_per_number * (2 * query_width * rows + 2 * key_width * key_rows + mask)
            + 4 * config.heads * rows
        )

    def norm(self, rows: int, width: int, kind: str, number: int = 4) -> int:
        """Count the input, of `number` bytes a number on a CPU, and its divisor where that is kept."""
        if kind == "layer":
            return rows * (4 * width + 8)
        return rows * (4 * width + 4 if self.on_gpu else number * width)

    def dropout_mask(self, rows: int, number: int) -> int:
        """Count the mask of dropout on [rows, C]: booleans on a GPU, numbers of the input's size on a CPU."""
        return (
            rows * self.config.d_model * (1 if self.on_gpu else number)
            if self.config.dropout
            else 0
        )
