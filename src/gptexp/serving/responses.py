"""Answers in the shape of OpenAI's completions and chat completions."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gptexp.data.tokenizers import Tokenizer
from gptexp.serving.running_batch import TokenScore
from gptexp.serving.token_names import token_bytes, token_name


@dataclass
class Choice:
    """One answer so far."""

    text: str = ""
    scores: list[TokenScore] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str | None = None


class ResponseFormat:
    """The objects of one request; all of them share an id.

    Args:
        is_scored: the request asks for log-probabilities.
        extra: entries beside OpenAI's, such as the seed.
    """

    def __init__(
        self,
        is_chat: bool,
        model: str,
        tokenizer: Tokenizer,
        is_scored: bool,
        extra: dict[str, Any],
    ) -> None:
        self.is_chat, self.tokenizer, self.is_scored = is_chat, tokenizer, is_scored
        kind = "chat.completion" if is_chat else "text_completion"
        prefix = "chatcmpl" if is_chat else "cmpl"
        self.head = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }
        self.extra = extra

    def whole(self, choices: Sequence[Choice], prompt_tokens: int) -> dict[str, Any]:
        """Return the response to a request that does not stream."""
        entries = [self._choice(index, choice, False) for index, choice in enumerate(choices)]
        return {
            **self.head,
            "choices": entries,
            "usage": usage(prompt_tokens, choices),
            **self.extra,
        }

    def chunk(self, index: int, part: Choice, is_first: bool = False) -> dict[str, Any]:
        """Return the next part of an answer in a stream."""
        head = self.head
        if self.is_chat:
            head = {**head, "object": "chat.completion.chunk"}
        entry = self._choice(index, part, True, is_first)
        return {**head, "choices": [entry], **(self.extra if is_first else {})}

    def usage_chunk(self, choices: Sequence[Choice], prompt_tokens: int) -> dict[str, Any]:
        """Return the last part of a stream whose request asks for the usage."""
        head = {**self.head, "object": "chat.completion.chunk"} if self.is_chat else self.head
        return {**head, "choices": [], "usage": usage(prompt_tokens, choices)}

    def _choice(
        self, index: int, choice: Choice, is_stream: bool, is_first: bool = False
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": index}
        if not self.is_chat:
            entry["text"] = choice.text
        elif not is_stream:
            entry["message"] = {"role": "assistant", "content": choice.text, "refusal": None}
        else:
            entry["delta"] = {"content": choice.text}
            if is_first:
                entry["delta"] = {"role": "assistant", "content": choice.text}
        entry["logprobs"] = None
        if self.is_scored and (choice.scores or not is_stream):
            entry["logprobs"] = (self._chat_scores if self.is_chat else self._text_scores)(
                choice.scores
            )
        entry["finish_reason"] = choice.finish_reason
        return entry

    def _text_scores(self, scores: Sequence[TokenScore]) -> dict[str, Any]:
        name = self.tokenizer
        return {
            "tokens": [token_name(score.token, name) for score in scores],
            "token_logprobs": [score.log_probability for score in scores],
            "top_logprobs": [
                {token_name(token, name): value for token, value in reversed(score.top)}
                if score.log_probability is not None
                else None
                for score in scores
            ],
            "text_offset": [score.offset for score in scores],
        }

    def _chat_scores(self, scores: Sequence[TokenScore]) -> dict[str, Any]:
        content = [
            {
                **self._token_entry(score.token, score.log_probability),
                "text_offset": score.offset,
                "top_logprobs": [self._token_entry(*likely) for likely in score.top],
            }
            for score in scores
        ]
        return {"content": content, "refusal": None}

    def _token_entry(self, token: int, log_probability: float | None) -> dict[str, Any]:
        return {
            "token": token_name(token, self.tokenizer),
            "logprob": log_probability,
            "bytes": list(token_bytes(token, self.tokenizer)),
        }


def usage(prompt_tokens: int, choices: Sequence[Choice]) -> dict[str, int]:
    completion = sum(choice.tokens for choice in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
    }


def server_event(value: dict[str, Any] | str) -> bytes:
    """Return an event of a stream, as server-sent events are written."""
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {data}\n\n".encode()
