"""The Transformer: decoder, prefix decoder, encoder, and encoder with decoder, from the same blocks.

Vaswani et al. 2017 (arXiv 1706.03762); as a language model Radford et al. 2018 and 2019; as an encoder Devlin et al.
2018 (arXiv 1810.04805). A token is embedded and gets its position. Each block mixes it with other tokens by attention
(attention.py) and transforms it alone by a feed-forward layer (feed_forward.py, mixture_of_experts.py). A head turns
the hidden states into logits.

Legend: B sequences, T tokens, S tokens of the source, C width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.loss import LossSums, PreferenceLoss, describe_pairs
from gptexp.model.attention import Attention, AttentionContext, EncoderMemory, KVCache
from gptexp.model.batch_index import BatchIndex, find_first, index_batch, split_source_and_target
from gptexp.model.config import TransformerConfig
from gptexp.model.context_parallel import ChunkedAttention, ContextGroup
from gptexp.model.features import FeatureEmbedding, FeatureHead
from gptexp.model.feed_forward import FeedForward
from gptexp.model.initialisation import init_weights
from gptexp.model.masks import BlockMaskBuilder, SequenceLayout, layer_masks
from gptexp.model.mixture_of_experts import (
    MixtureOfExperts,
    balance_loss,
    expert_load,
    pop_routings,
)
from gptexp.model.norm import norm
from gptexp.model.positions import Rotary, sinusoidal
from gptexp.model.token_loss import Head, count_chunk_rows, sum_log_probs, sum_over_chunks


class Block(nn.Module):
    """Pre-norm residual block (arXiv 2002.04745): x + attention(norm(x)), then x + feed_forward(norm(x)).

    In an encoder with decoder, the decoder's blocks attend to the encoder's memory in between.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer: int,
        *,
        has_cross_attention: bool = False,
        attention_class: type[Attention] = Attention,
        feed_forward_class: type[FeedForward] = FeedForward,
    ) -> None:
        super().__init__()
        self.attention_norm = norm(config)
        self.attention = attention_class(config, layer)
        self.cross_norm = norm(config) if has_cross_attention else None
        self.cross_attention = attention_class(config, layer) if has_cross_attention else None
        self.feed_forward_norm = norm(config)
        self.feed_forward = (
            MixtureOfExperts(config) if config.experts else feed_forward_class(config)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), context))
        if self.cross_norm is not None and self.cross_attention is not None:
            x = x + self.dropout(self.cross_attention.cross(self.cross_norm(x), context))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Encoder(nn.Module):
    """The blocks that read the source of an encoder with decoder, which share the decoder's embedding."""

    def __init__(self, config: TransformerConfig, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks
        self.norm = norm(config)


class Transformer(nn.Module):
    """A language model, an encoder, or both. A subclass may name other classes for its parts."""

    block_class: type[Block] = Block
    attention_class: type[Attention] = Attention
    feed_forward_class: type[FeedForward] = FeedForward

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.experts and self.feed_forward_class is not FeedForward:
            raise ValueError(
                f"experts={config.experts}: experts do not use the feed_forward_class of "
                f"{type(self).__name__}"
            )
        self.config = config
        self.context_group: ContextGroup | None = (
            None  # of the ranks that share sequences in `loss`
        )
        self.build_block_mask: BlockMaskBuilder | None = None  # None: attention has dense masks
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = self.rotary = None
        if config.position == "learned":
            self.positions = nn.Embedding(config.context, config.d_model)
        elif config.position == "rotary":
            self.rotary = Rotary(config.head_dim, config.rope_theta, dict(config.rope_scaling))
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = None
        if config.encoder_layers:
            self.encoder = Encoder(config, self._new_blocks(config.encoder_layers))
        self.blocks = self._new_blocks(config.layers, self.encoder is not None)
        self.norm = norm(config)
        self.head = Head(config.d_model, config.num_token_classes or config.vocab_size)
        ties = config.tie_embeddings and not config.num_token_classes
        if ties or config.predicts_features:  # Press and Wolf 2017, arXiv 1608.05859
            self.head.weight = self.embedding.weight
        self.class_head = None
        if config.num_sequence_classes:
            self.class_head = nn.Linear(4 * config.d_model, config.num_sequence_classes)
        self.feature_embedding = FeatureEmbedding(config) if config.feature_size else None
        self.feature_head = FeatureHead(config) if config.predicts_features else None
        init_weights(self)

    def forward(
        self,
        tokens: Tensor,
        layout: SequenceLayout = SequenceLayout(),
        *,
        cache: KVCache | None = None,
        memory: EncoderMemory | None = None,
        features: Tensor | None = None,
        masked_rows: Tensor | None = None,
        rows: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Compute the hidden states after the last norm, [B, T, C]; `logits` turns them into predictions.

        Args:
            tokens: [B, T]; with a cache, the tokens that follow those in it.
            layout: documents, prefixes and padding of the sequences.
            cache: keys and values of the tokens before; those of `tokens` are added.
            memory: the result of `encode`, for an encoder with decoder.
            features: [B, F, D], embedded at the negative tokens in their order.
            masked_rows: [B, F], True for rows whose embedding is replaced by a learned one.
            rows: positions of the embedded rows in the flattened [B, F], if they are known.
            positions: [B, T], where those of the tokens are not 0, 1, 2, ..., as in sequences of several documents.

        Raises:
            ValueError: more tokens than the context holds.
        """
        past = cache.length if cache is not None else 0
        x, rotary = self._embed(
            tokens, past, layout.left_padding, features, masked_rows, rows, positions
        )
        masks = layer_masks(
            self.config,
            layout,
            tokens.shape[1],
            past,
            tokens.device,
            build_blocks=self.build_block_mask if cache is None else None,
        )
        contexts = [AttentionContext(mask, rotary, cache, memory) for mask in masks]
        x = self._run_blocks(self.blocks, x, contexts)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(x)

    def encode(self, source: Tensor, lengths: Tensor) -> EncoderMemory:
        """Encode sources [B, S] of these lengths [B], padded on the right."""
        assert self.encoder is not None
        x, rotary = self._embed(source)
        layout, size, device = SequenceLayout(lengths=lengths), source.shape[1], source.device
        masks = layer_masks(
            self.config,
            layout,
            size,
            device=device,
            is_causal=False,
            build_blocks=self.build_block_mask,
        )
        contexts = [AttentionContext(mask, rotary) for mask in masks]
        x = self._run_blocks(self.encoder.blocks, x, contexts)
        return EncoderMemory(
            self.encoder.norm(x), layout.mask(size, device=device, is_causal=False)
        )

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        features: Tensor | None = None,
        masked_rows: Tensor | None = None,
        positions: Tensor | None = None,
        index: BatchIndex | None = None,
        reference: Tensor | None = None,
        preference: PreferenceLoss | None = None,
    ) -> LossSums:
        """Sum the cross-entropy in nats over the targets [B, T] that are not negative, and over the labels [B].

        The head computes logits only at positions with a target: a summary's loss does not pay for its document. The
        encoder of an encoder with decoder reads the prefix, and its decoder starts with the prefix's last token. Rows
        of features that are predicted are their own targets; `targets` marks the positions that a row follows. In
        training, the balance of experts is an auxiliary term.

        Args:
            index: the result of `index` for the same arguments. On a GPU, it is computed before the batch moves there.
            preference: the loss of pairs, instead of the cross-entropy: rows 2 i and 2 i + 1 are the chosen and the
                rejected answer of pair i, whose log-probabilities in the reference are reference[i].
        """
        index = index or self.index(tokens, targets, prefix, features)
        memory = None
        if self.encoder is not None:
            assert prefix is not None
            lengths = (tokens.shape[1] if lengths is None else lengths) - prefix + 1
            source, tokens, targets = split_source_and_target(
                tokens, targets, prefix, index.source_size, index.target_size
            )
            memory = self.encode(source, prefix)
        # Not self(...): FSDP enters the model by `loss` and gathers its parameters there.
        layout = SequenceLayout(documents, prefix, lengths)
        if self.context_group is not None:
            states, targets = self._compute_chunks(tokens, targets, documents, self.context_group)
            is_padded = targets.shape[1] * self.context_group.size != tokens.shape[1]
            if is_padded or index.targets is not None:
                index = self.index(tokens, targets, None, None)
        else:
            states = self.forward(
                tokens,
                layout,
                memory=memory,
                features=features,
                masked_rows=masked_rows,
                rows=index.rows,
                positions=positions,
            )
        targeted, flat = states.flatten(0, 1), targets.flatten()
        if index.targets is not None:
            targeted, flat = targeted[index.targets], flat[index.targets]
        zero = states.new_zeros((), dtype=torch.float32)
        target_loss, label_loss, auxiliary, statistics = zero, zero, zero, zero.new_zeros(0)
        if self.feature_head is not None:
            assert features is not None
            assert index.continuing is not None
            next_rows = features.flatten(0, 1)[index.next_rows]
            target_loss = self.feature_head.loss(targeted, flat, next_rows, index.continuing)
        elif preference is not None:
            assert reference is not None
            log_probs = sum_log_probs(self, targeted, flat, index.targets, targets.shape)
            answer_lengths = (targets >= 0).sum(dim=1)
            target_loss, label_loss, _, statistics = preference.sum_losses(
                log_probs.view(-1, 2), answer_lengths.view(-1, 2), reference
            )
        else:
            target_loss = self._sum_token_losses(targeted, flat)
        if self.class_head is not None and labels is not None:
            assert prefix is not None
            assert lengths is not None
            logits = self.classify(states, prefix, lengths)
            label_loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        if self.config.experts:  # a dense model has no routers to look for
            routings = pop_routings(self.blocks, lengths)
            if self.encoder is not None:
                routings += pop_routings(self.encoder.blocks, prefix)
            chosen = [routing.chosen.sum(dim=(0, 1)) for routing in routings]
            statistics = torch.cat([statistics, *chosen])
            if self.training:
                auxiliary = self.config.balance_loss * sum(map(balance_loss, routings), start=zero)
        return LossSums(target_loss, label_loss, auxiliary, statistics)

    def index(
        self, tokens: Tensor, targets: Tensor, prefix: Tensor | None, features: Tensor | None
    ) -> BatchIndex:
        """Find the positions that `loss` needs for these arguments, on their device."""
        return index_batch(
            tokens,
            targets,
            prefix,
            features,
            has_encoder=self.encoder is not None,
            predicts_features=self.feature_head is not None,
        )

    def token_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum the cross-entropy in nats of logits [N, V] over targets [N].

        A subclass may compute another sum over targets: many of them come in several calls.
        """
        return F.cross_entropy(logits.float(), targets, reduction="sum")

    def chunk_loss(self, states: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Sum the losses of states [N, C] whose logits are computed at once; `weight` as in Head.

        A function of tensors alone, which torch.compile fuses.
        """
        logits = self.head(states) if weight is None else self.head(states, weight)
        return self.token_loss(logits, targets)

    def report(self, statistics: Tensor) -> dict[str, float]:
        """Name the statistics that `loss` sums: expert_load is that of the busiest expert, 1 if all are equal."""
        experts = self.config.experts
        of_pairs = len(statistics) - experts * (self.config.layers + self.config.encoder_layers)
        report = describe_pairs(statistics[:of_pairs]) if of_pairs else {}
        if experts:
            report["expert_load"] = expert_load(statistics[of_pairs:].view(-1, experts))
        return report

    def classify(self, hidden: Tensor, prefix: Tensor, lengths: Tensor) -> Tensor:
        """Compute logits [B, classes] for pairs of texts, the first of prefix [B] tokens, from hidden states [B, T, C].

        BERT classifies by its first token, which takes very long to learn from random weights. The means over both
        texts, their product and their distance compare the two directly (Conneau et al. 2017, arXiv 1705.02364).
        """
        assert self.class_head is not None
        position = torch.arange(hidden.shape[1], device=hidden.device)[None]
        is_token, is_first = position < lengths[:, None], position < prefix[:, None]  # [B, T]
        parts = (is_token & is_first, is_token & ~is_first)
        first, second = (
            (hidden * part[..., None]).sum(dim=1) / part.sum(dim=1, keepdim=True).clamp(min=1)
            for part in parts
        )
        return self.class_head(
            torch.cat((first, second, first * second, (first - second).abs()), dim=-1)
        )

    def logits(self, states: Tensor) -> Tensor:
        """Compute logits from hidden states [..., C]: of tokens, of tags, or of a row of features."""
        return (self.feature_head or self.head)(states)

    def new_cache(self, batch: int, longest: int) -> KVCache:
        """Allocate a cache for `batch` sequences of at most `longest` tokens."""
        return KVCache.empty(self.config, batch, longest, self.embedding.weight)

    def _sum_token_losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """Sum the losses of states [N, C] with targets [N]."""
        outputs = self.config.num_token_classes or self.config.vocab_size
        rows = count_chunk_rows(len(states), outputs, states.device.type == "cuda")
        if rows == len(states):
            return self.chunk_loss(states, targets)
        return sum_over_chunks(self.chunk_loss, self.head, states, targets, rows)

    def _new_blocks(self, count: int, has_cross_attention: bool = False) -> nn.ModuleList:
        return nn.ModuleList(
            self.block_class(
                self.config,
                layer,
                has_cross_attention=has_cross_attention,
                attention_class=self.attention_class,
                feed_forward_class=self.feed_forward_class,
            )
            for layer in range(count)
        )

    def _compute_chunks(
        self, tokens: Tensor, targets: Tensor, documents: Tensor | None, group: ContextGroup
    ) -> tuple[Tensor, Tensor]:
        """Compute the hidden states [B, 2 L, C] of this rank's chunks of sequences [B, T], and select their targets."""
        tokens, targets = group.pad(tokens, 0), group.pad(targets, -1)
        layout = SequenceLayout(None if documents is None else group.pad(documents, -1))
        positions = group.positions(tokens.shape[1], tokens.device)
        tokens, targets, length = tokens[:, positions], targets[:, positions], len(positions) // 2
        x, rotary = self._embed(tokens, positions=positions[None])
        firsts, seconds = (
            layer_masks(
                self.config,
                layout,
                length,
                chunk * length,
                tokens.device,
                build_blocks=self.build_block_mask,
            )
            for chunk in group.chunks
        )
        contexts = [
            AttentionContext(masks[0], rotary, chunked=ChunkedAttention(group, masks))
            for masks in zip(firsts, seconds, strict=True)
        ]
        return self.norm(self._run_blocks(self.blocks, x, contexts)), targets

    def _embed(
        self,
        tokens: Tensor,
        past: int = 0,
        left_padding: Tensor | None = None,
        features: Tensor | None = None,
        masked_rows: Tensor | None = None,
        rows: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Embed tokens as [B, T, C], with learned or sinusoidal positions; rotary ones are returned as angles."""
        T = tokens.shape[1]  # noqa: N806
        if past + T > self.config.context:
            raise ValueError(
                f"{past + T} tokens do not fit into a context of {self.config.context}"
            )
        if positions is None:
            positions = torch.arange(past, past + T, device=tokens.device)[None]  # [1, T]
        if left_padding is not None:
            positions = (positions - left_padding[:, None]).clamp(min=0)  # [B, T]
        x = self.embedding(tokens.clamp(min=0))
        if features is not None:
            assert self.feature_embedding is not None
            is_row = tokens < 0
            if rows is None:
                rows = find_first(is_row.sum(dim=1), features.shape[1])
            is_masked = None if masked_rows is None else masked_rows.flatten()[rows]
            embedded = self.feature_embedding(features.flatten(0, 1)[rows], is_masked)
            x = x.masked_scatter(is_row[..., None], embedded.to(x.dtype))
        if self.positions is not None:
            x = x + self.positions(positions)
        elif self.rotary is None:
            # Scaled as in Vaswani et al. 2017, section 3.4: the sinusoids are as large as 1.
            table = sinusoidal(positions, self.config.d_model)
            x = x * self.config.d_model**0.5 + table.to(x.dtype)
        return self.dropout(x), self.rotary(positions) if self.rotary is not None else None

    def _run_blocks(
        self, blocks: nn.ModuleList, x: Tensor, contexts: list[AttentionContext]
    ) -> Tensor:
        for block, context in zip(blocks, contexts, strict=True):
            x = block(x, context)
        return x
