"""A batch of sequences during generation: prefill once, then one token a step.

Legend: B sequences, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence

from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.gpu_decoder import GpuDecoder, StaticBatch, is_on_gpu
from gptexp.generation.host_copy import to_device
from gptexp.generation.prompt import Prompt
from gptexp.model.attention import EncoderMemory
from gptexp.model.config import TransformerConfig
from gptexp.model.masks import SequenceLayout
from gptexp.model.transformer import Transformer

PREFILL_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class DecodeState:
    """The KV cache of a batch, and the logits [B, V] of the next token of each sequence.

    Prompts of unequal length are padded on the left. Copies of a prompt, which may be continued in different ways,
    are computed once. An encoder reads its prompts padded on the right; its decoder starts with their last token.

    Args:
        decoder: computes the steps after the prefill; None: the model itself does.

    Attributes:
        runs_ahead: `step` returns before a GPU has computed it: begin a step before reading the tokens of the last.

    Raises:
        ValueError: the model does not generate, max_new_tokens does not fit into the context, or a prompt is empty,
            has a token outside of the vocabulary, or has features and would have to be cut.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        decoder: CpuDecoder | GpuDecoder | None = None,
    ) -> None:
        self.model, self.decoder = model, decoder
        distinct = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        inputs = _fit_to_context(model.config, list(distinct), max_new_tokens)
        device = model.embedding.weight.device
        self.runs_ahead = is_on_gpu(model)
        rows = [list(prompt.tokens) for prompt in inputs]
        self.memory: EncoderMemory | None = None
        if model.encoder is not None:
            sizes = [len(row) for row in rows]
            source = torch.tensor([row + [0] * (max(sizes) - len(row)) for row in rows])
            self.memory = model.encode(source.to(device), torch.tensor(sizes, device=device))
            rows = [row[-1:] for row in rows]
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
        padding = torch.tensor([longest - length for length in lengths], device=device)
        self.layout = SequenceLayout(left_padding=padding if min(lengths) < longest else None)
        room = 0 if isinstance(decoder, GpuDecoder) else max_new_tokens
        self.cache = model.new_cache(len(rows), longest + room)
        features = _pad_features(inputs, model.config.feature_size)
        hidden = model(
            tokens,
            replace(self.layout, prefix=torch.full_like(padding, longest)),
            cache=self.cache,
            memory=self.memory,
            features=None if features is None else features.to(device),
        )
        self.logits = model.logits(hidden[:, -1])
        copies = [distinct[prompt] for prompt in prompts]
        self.batch: StaticBatch | None = None
        if isinstance(decoder, GpuDecoder):
            self.batch = decoder.start_batch(
                self, self.cache, longest + max_new_tokens, copies, self.layout, self.memory
            )
            self.logits = self.logits[copies]
            del self.cache, self.memory
        elif len(distinct) < len(prompts):
            self.select(copies)

    def step(self, tokens: Tensor, features: Tensor | None = None) -> None:
        """Append one token to each sequence, [B]; where it is negative, a row of features [B, D]."""
        if self.batch is not None:
            self.logits = self.batch.step(tokens)
            return
        if isinstance(self.decoder, CpuDecoder):
            memory_mask = None if self.memory is None else self.memory.mask
            self.logits = self.decoder.step(tokens, self.cache, self.layout, memory_mask)
            return
        hidden = self.model(
            tokens[:, None],
            self.layout,
            cache=self.cache,
            memory=self.memory,
            features=None if features is None else features[:, None],
        )
        self.logits = self.model.logits(hidden[:, -1])

    def select(self, rows: Sequence[int] | Tensor, has_same_prompts: bool = False) -> Tensor:
        """Reorder, repeat or drop sequences: the new sequence i continues the old sequence rows[i].

        Args:
            has_same_prompts: each old sequence has the prompt of the new one, which need not move.

        Returns:
            the rows on the device.
        """
        if not isinstance(rows, Tensor):
            rows = to_device(rows, self.logits.device)
        self.logits = self.logits[rows]
        if self.batch is not None:
            self.batch.select(rows, has_same_prompts)
            return rows
        self.cache.select(rows)
        self.layout = self.layout.select(rows)
        if self.memory is not None:
            self.memory = self.memory.select(rows)
        return rows

    def rows_to_keep(self, unfinished: list[int], total: int) -> list[int]:
        """Return which of `total` rows to keep where some are unfinished: these, and on a GPU up to a power of two.

        CUDA graphs are recorded for each number of rows: 1, 2, 4 and 8 come again, others hardly do.
        """
        if self.batch is None:
            return unfinished
        count = min(1 << (len(unfinished) - 1).bit_length(), total)
        finished = sorted(set(range(total)) - set(unfinished))
        return unfinished + finished[: count - len(unfinished)]


@contextmanager
def generation_mode(model: Transformer) -> Iterator[None]:
    """Switch dropout off, and what suits only lengths that come again: compiled blocks, and cuDNN's attention.

    Leave it before anything is yielded: else other code runs in this mode, and what it sets is undone later.
    """
    was_training, build_block_mask = model.training, model.build_block_mask
    is_compiled = any(block._compiled_call_impl is not None for block in model.blocks)
    if was_training:  # a walk over all modules takes as long as a step of a small model
        model.eval()
    model.build_block_mask = None
    try:
        with ExitStack() as stack:
            if is_compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if is_on_gpu(model):
                stack.enter_context(sdpa_kernel(PREFILL_KERNELS))
            yield
    finally:
        model.build_block_mask = build_block_mask
        if was_training:
            model.train()


def prompt_room(config: TransformerConfig, max_new_tokens: int) -> int:
    """Return how many tokens of a prompt are read; of a longer one, the first are dropped."""
    return config.context if config.arch == "encoder_decoder" else config.context - max_new_tokens


def _fit_to_context(
    config: TransformerConfig, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[Prompt]:
    """Drop the first tokens of prompts that leave no room for `max_new_tokens`."""
    if config.arch == "encoder":
        raise ValueError("arch=encoder: does not generate; decoder, prefix and encoder_decoder do")
    limit = config.context - 1
    if not 1 <= max_new_tokens <= limit:
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: must be between 1 and {limit}, one less than the context"
        )
    room = prompt_room(config, max_new_tokens)
    for prompt in prompts:
        if not prompt.tokens:
            raise ValueError("a prompt has no tokens")
        smallest = 0 if prompt.features is None else -1
        for token in prompt.tokens:
            if not smallest <= token < config.vocab_size:
                raise ValueError(
                    f"token {token} of a prompt: the vocabulary has 0 to {config.vocab_size - 1}"
                )
        if prompt.features is not None and len(prompt) > room:
            raise ValueError(
                f"max_new_tokens={max_new_tokens}: does not fit after a prompt of {len(prompt)} tokens "
                f"into a context of {config.context}"
            )
    return [Prompt(prompt.tokens[-room:], prompt.features) for prompt in prompts]


def _pad_features(prompts: Sequence[Prompt], feature_size: int) -> Tensor | None:
    """Return features [B, F, D], zeros where a prompt has fewer rows than the longest; None if no prompt has any."""
    if all(prompt.features is None for prompt in prompts):
        return None
    none = torch.zeros(0, feature_size, dtype=torch.uint8)
    return pad_sequence(
        [none if p.features is None else torch.from_numpy(p.features) for p in prompts],
        batch_first=True,
    )
