"""Generate answers to prompts, token by token, in batches, with a KV cache.

One object serves the command line, Python and evaluation: greedy decoding, sampling, beam search (beam_search.py),
minimum Bayes risk decoding (mbr.py) and streaming.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import torch

from gptexp.generation.beam_search import beam_search
from gptexp.generation.cpu_decoder import FORMATS, CpuDecoder
from gptexp.generation.decode_state import DecodeState, generation_mode
from gptexp.generation.gpu_decoder import GpuDecoder, count_fitting_rows, is_on_gpu, uses_bfloat16
from gptexp.generation.host_copy import HostCopy
from gptexp.generation.mbr import select_minimum_bayes_risk
from gptexp.generation.next_token import apply_repetition_penalties, sample_next_token
from gptexp.generation.prompt import Prompt
from gptexp.model.transformer import Transformer
from gptexp.sampling import Sampling

StoppingCriteria = Callable[[list[int]], bool]  # tokens of an answer -> whether it ends here
# (prompt, tokens of an answer) -> the factor of its similarity to the other candidates
CandidateWeight = Callable[[Prompt, list[int]], float]

GREEDY = Sampling()
MAX_BATCH_ROWS, MAX_BATCH_TOKENS = 128, 32_768  # of the samples of minimum Bayes risk decoding


class Generator:
    """Generates with one model; after the model has been trained further, make a new one.

    Args:
        eos: tokens that end an answer and are not part of it, one or several; -1: none.
        weights: format of the weights: "float32", "bfloat16" (half the bytes to read; answers may differ a little) or
            "auto" (the faster of the two on this machine). On a CPU, bf16 is for single-token steps; a GPU computes
            everything in it, and a model in float32 is copied.

    Raises:
        ValueError: there is no such format.
    """

    def __init__(
        self, model: Transformer, eos: int | Iterable[int], weights: str = "float32"
    ) -> None:
        if weights not in (*FORMATS, "auto"):
            raise ValueError(f"weights={weights}: must be one of {', '.join(FORMATS)}, auto")
        if is_on_gpu(model) and uses_bfloat16(weights):
            is_bfloat16 = model.embedding.weight.dtype == torch.bfloat16
            model = model if is_bfloat16 else deepcopy(model).bfloat16()
        self.model, self.weights = model, weights
        self.eos = frozenset([eos] if isinstance(eos, int) else eos)
        self._decoder: CpuDecoder | GpuDecoder | None = None
        self._decoder_rows = 0  # batch size that a CPU decoder's weights are packed for

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        *,
        seeds: Sequence[int] | None = None,
        stopping_criteria: StoppingCriteria | None = None,
        candidate_weight: CandidateWeight | None = None,
    ) -> list[list[int]]:
        """Return the new tokens of each prompt, without the end-of-text token.

        Repeat a prompt to get several answers to it: samples, or with beam search the best, the second best and so on.

        Args:
            seeds: one for each prompt; default: derived from sampling.seed and the position in `prompts`. An answer
                depends on its prompt and its seed, not on the rest of the batch.
            stopping_criteria: called with the tokens of an answer after each new one; the answer ends, with this token,
                where it returns True.
            candidate_weight: weighs the candidates of minimum Bayes risk decoding; None: all alike.

        Raises:
            ValueError: the model does not generate tokens, a prompt is empty or has unknown tokens, max_new_tokens does
                not fit into the context, or a prompt is repeated more often than there are beams.
        """
        if not prompts:
            return []
        self._check_model()
        seeds = sampling.seeds(len(prompts)) if seeds is None else seeds
        with generation_mode(self.model):
            if sampling.num_beams > 1:
                return self._beam_search(prompts, max_new_tokens, sampling, stopping_criteria)
            if sampling.mbr_samples > 1:
                candidates = self._sample_candidates(
                    prompts, max_new_tokens, sampling, seeds, stopping_criteria
                )
                return [
                    _select_answer(prompt, answers, candidate_weight)
                    for prompt, answers in zip(prompts, candidates, strict=True)
                ]
            state = self._prefill(prompts, max_new_tokens, len(prompts))
            steps = self._decode(state, max_new_tokens, sampling, seeds, stopping_criteria)
            return _join_steps(steps, len(prompts))

    def stream(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        *,
        seeds: Sequence[int] | None = None,
        stopping_criteria: StoppingCriteria | None = None,
    ) -> Iterator[list[int | None]]:
        """Yield the next token of each answer, step by step, and None for answers that have ended.

        Args: see `generate`.

        Raises:
            ValueError: see `generate`; or num_beams or mbr_samples is above 1: such answers are known only at the end.
        """
        if sampling.num_beams > 1 or sampling.mbr_samples > 1:
            raise ValueError(
                "num_beams and mbr_samples must be 1: their answers cannot be streamed"
            )
        self._check_model()
        seeds = sampling.seeds(len(prompts)) if seeds is None else seeds
        with generation_mode(self.model):
            state = self._prefill(prompts, max_new_tokens, len(prompts))
        steps = self._decode(state, max_new_tokens, sampling, seeds, stopping_criteria)
        while True:
            with generation_mode(self.model):
                tokens = next(steps, None)
            if tokens is None:
                return
            yield tokens

    def _check_model(self) -> None:
        if self.model.config.predicts_features:
            raise ValueError(
                "this model generates rows of features, not tokens: use generate_features"
            )

    @torch.inference_mode()
    def _prefill(self, prompts: Sequence[Prompt], max_new_tokens: int, rows: int) -> DecodeState:
        """Compute the prompts; `rows` is the batch size that the CPU decoder's weights are packed for."""
        if is_on_gpu(self.model):
            self._decoder = self._decoder or GpuDecoder.for_model(self.model)
        elif rows != self._decoder_rows:
            self._decoder = CpuDecoder.for_model(self.model, self.weights, rows)
            self._decoder_rows = rows
        return DecodeState(self.model, prompts, max_new_tokens, self._decoder)

    @torch.inference_mode()
    def _decode(
        self,
        state: DecodeState,
        max_new_tokens: int,
        sampling: Sampling,
        seeds: Sequence[int],
        stopping_criteria: StoppingCriteria | None,
    ) -> Iterator[list[int | None]]:
        """Decode greedily or sample, and yield tokens as `stream` does."""
        draws = [
            torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        uniform = torch.stack(draws).to(state.logits.device)  # [B, max_new_tokens]
        history = torch.empty_like(
            uniform, dtype=torch.long
        )  # tokens of the batch's answers so far
        answers: list[list[int]] = [[] for _ in seeds]
        batch = list(range(len(seeds)))  # number of the prompt in each row of the batch
        unfinished = set(batch)
        for step in range(max_new_tokens):
            is_last = step == max_new_tokens - 1
            logits = apply_repetition_penalties(state.logits.float(), history[:, :step], sampling)
            tokens = sample_next_token(logits, sampling, uniform[:, step])
            history[:, step] = tokens
            reading = HostCopy(tokens)
            if state.runs_ahead and not is_last:
                state.step(tokens)
            new: list[int | None] = [None] * len(answers)
            for number, token in zip(batch, reading.tolist(), strict=True):
                answers[number].append(token)
                if number not in unfinished:
                    continue
                if token not in self.eos:
                    new[number] = token
                if token in self.eos or (
                    stopping_criteria is not None and stopping_criteria(answers[number])
                ):
                    unfinished.discard(number)
            yield new
            if is_last or not unfinished:
                return
            if 2 * len(unfinished) <= len(batch):  # drop finished rows when they are half of it
                rows = [row for row, number in enumerate(batch) if number in unfinished]
                rows = state.rows_to_keep(rows, len(batch))
                batch = [batch[row] for row in rows]
                indices = state.select(rows)
                tokens, uniform, history = tokens[indices], uniform[indices], history[indices]
            if not state.runs_ahead:
                state.step(tokens)

    @torch.inference_mode()
    def _beam_search(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        sampling: Sampling,
        stopping_criteria: StoppingCriteria | None,
    ) -> list[list[int]]:
        copies = Counter(prompts)
        most_copies = max(copies.values())
        if most_copies > sampling.num_beams:
            raise ValueError(
                f"{most_copies} answers to one prompt: num_beams={sampling.num_beams} must be at least as many"
            )
        beams = [prompt for prompt in copies for _ in range(sampling.num_beams)]
        state = self._prefill(beams, max_new_tokens, len(beams))
        best = beam_search(
            state, len(copies), max_new_tokens, self.eos, sampling, stopping_criteria
        )
        next_best = {prompt: iter(answers) for prompt, answers in zip(copies, best, strict=True)}
        return [next(next_best[prompt]) for prompt in prompts]

    def _sample_candidates(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        sampling: Sampling,
        seeds: Sequence[int],
        stopping_criteria: StoppingCriteria | None,
    ) -> list[list[list[int]]]:
        """Sample several answers to each prompt, in batches of limited size, and add the greedy answer."""
        count = sampling.mbr_samples
        copies = [prompt for prompt in prompts for _ in range(count)]
        copy_seeds = [seed for own in seeds for seed in replace(sampling, seed=own).seeds(count)]
        longest = min(max(map(len, prompts)) + max_new_tokens, self.model.config.context)
        rows = max(1, min(MAX_BATCH_ROWS, MAX_BATCH_TOKENS // longest))
        if is_on_gpu(self.model):
            rows = max(rows, count_fitting_rows(self.model.config, longest))
        rows = min(rows, len(copies))
        samples: list[list[int]] = []
        for start in range(0, len(copies), rows):
            batch = copies[start : start + rows]
            steps = self._decode(
                self._prefill(batch, max_new_tokens, rows),
                max_new_tokens,
                sampling,
                copy_seeds[start : start + rows],
                stopping_criteria,
            )
            samples += _join_steps(steps, len(batch))
        greedy = Sampling(
            repetition_penalty=sampling.repetition_penalty, no_repeat_ngram=sampling.no_repeat_ngram
        )
        likeliest: list[list[int]] = []
        for start in range(0, len(prompts), rows):
            likeliest += self.generate(
                prompts[start : start + rows],
                max_new_tokens,
                greedy,
                stopping_criteria=stopping_criteria,
            )
        return [
            [*samples[number * count : (number + 1) * count], answer]
            for number, answer in enumerate(likeliest)
        ]


def _select_answer(
    prompt: Prompt, candidates: list[list[int]], weight: CandidateWeight | None
) -> list[int]:
    weights = [weight(prompt, candidate) for candidate in candidates] if weight else None
    return select_minimum_bayes_risk(candidates, weights)


def _join_steps(steps: Iterator[list[int | None]], answers: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(answers)]
    for tokens in steps:
        for row, token in zip(rows, tokens, strict=True):
            if token is not None:
                row.append(token)
    return rows
