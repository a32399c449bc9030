"""OpenAI's API as different servers speak it: one form, and a table of what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.models.protocols import Decoding, Finish
from rlm_agent.models.remote.faults import Fleeting
from rlm_agent.models.remote.wire import SEEDS, Ask, Part, Usage
from rlm_agent.structure.errors import InputError

_PLAIN = Decoding()


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a kind of server has beside OpenAI's own API, and what it calls it.

    reason: the field of a choice that tells which stop ended it.
    renames: its words for `top_k`, `min_p`, `repeat_penalty` and `grammar`; it takes none that is missing.
    uncut: a `top_k` that cuts nothing.
    partial: added to a conversation whose last message is to be continued; None where that cannot be had.
    special: added so that special tokens show in the text; None likewise.
    alternatives: to a token, at most.
    tokens: whether prompts may be token ids. `texts`: whether there are `/completions` at all.
    longest: its word for the most tokens. `usage` makes a stream tell its usage.
    """

    name: str
    reason: str | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    uncut: int = -1
    partial: Mapping[str, Any] | None = None
    special: Mapping[str, Any] | None = None
    tokens: bool = False
    texts: bool = True
    alternatives: int = 20
    longest: str = "max_tokens"
    usage: Mapping[str, Any] = field(default_factory=lambda: {"stream_options": {"include_usage": True}})

    @property
    def tells(self) -> bool:
        """See `Dialect`."""
        return self.reason is not None

    @property
    def continues(self) -> bool:
        """See `Dialect`."""
        return self.partial is not None

    def body(self, ask: Ask) -> tuple[str, dict[str, Any]]:
        """See `Dialect`."""
        request = ask.request
        chat = ask.prompt is None
        body: dict[str, Any] = {"model": ask.model, self.longest: request.max_tokens, "stream": ask.stream}
        if chat:
            body["messages"] = [dict(message) for message in ask.messages]
            body |= self.partial or {} if ask.partial else {}
        else:
            body["prompt"] = ask.prompt if isinstance(ask.prompt, str) else list(ask.prompt or ())
        body |= {"seed": request.seed % SEEDS, "temperature": request.decoding.temperature}
        body |= self._drawing(request.decoding)
        if self.tells and (stops := list(dict.fromkeys((*request.stop, *request.end_tokens)))):
            body["stop"] = stops
        if request.stop_tokens or request.end_tokens:
            if self.special is None:
                raise InputError(f"{self.name} shows no special tokens; end steps with plain text")
            body |= self.special
        body |= {"n": ask.samples} if ask.samples > 1 else {}
        body |= self.usage if ask.stream else {}
        if ask.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": ask.logprobs} if chat else {"logprobs": ask.logprobs}
        return ("chat/completions" if chat else "completions"), body

    def parts(self, said: Any, ask: Ask) -> Sequence[Part]:
        """See `Dialect`."""
        usage = _usage(said.get("usage"))
        parts = [self._part(choice, ask, usage) for choice in sorted(said["choices"], key=_index)]
        return parts or ([Part(usage=usage)] if ask.stream else [])

    def _part(self, choice: Any, ask: Ask, usage: Usage | None) -> Part:
        if ask.prompt is None:
            text = (choice["delta"] if ask.stream else choice["message"]).get("content")
        else:
            text = choice["text"]
        logprobs, alternatives = _logprobs(choice.get("logprobs"))
        finish = self._finish(choice, ask) if choice.get("finish_reason") else None
        return Part(str(text or ""), logprobs, alternatives, finish, usage)

    def _finish(self, choice: Any, ask: Ask) -> Finish:
        told = choice["finish_reason"]
        if told in ("abort", "error"):
            raise Fleeting(f"the server gave up ({told})")
        if told == "length":
            return "length"
        stop = choice.get(self.reason) if self.reason is not None else None
        if not isinstance(stop, str):
            return "end"
        return "end" if stop in ask.request.end_tokens else "stop"

    def _drawing(self, how: Decoding) -> dict[str, Any]:
        """What is not OpenAI's default; and all that the server has a word for, whose defaults may differ."""
        body: dict[str, Any] = {}
        for name in ("top_k", "min_p", "repeat_penalty", "grammar"):
            value, changed = getattr(how, name), getattr(how, name) != getattr(_PLAIN, name)
            if name in self.renames and value is not None:
                _put(body, self.renames[name], self.uncut if name == "top_k" and not value else value)
            elif changed:
                raise InputError(f"{self.name} takes no {name}; leave it out, or use another server")
        if how.stop_tokens:
            raise InputError(f"{self.name} is not told tokens by number; name their texts in a format")
        body |= {"top_p": how.top_p} if self.renames or how.top_p != _PLAIN.top_p else {}
        for name in ("presence_penalty", "frequency_penalty"):
            body |= {name: getattr(how, name)} if getattr(how, name) else {}
        body |= {"logit_bias": {str(token): bias for token, bias in how.logit_bias}} if how.logit_bias else {}
        return body


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    """Write a value at a path of names with dots between."""
    *outer, last = path.split(".")
    for name in outer:
        body = body.setdefault(name, {})
    body[last] = value


def _index(choice: Any) -> int:
    return int(choice.get("index", 0))


def _usage(told: Any) -> Usage | None:
    if not told:
        return None
    details = told.get("prompt_tokens_details") or {}
    return Usage(
        int(told.get("prompt_tokens") or 0),
        int(details.get("cached_tokens") or 0),
        int(told.get("completion_tokens") or 0),
    )


def _logprobs(told: Any) -> tuple[tuple[float, ...], tuple[dict[str, float], ...]]:
    """Log-probabilities in the form of chats, `content`, or of completions, a list a column."""
    if not told:
        return (), ()
    if told.get("content") is not None:
        rows = told["content"]
        return tuple(float(row["logprob"]) for row in rows), tuple(map(_top, rows))
    numbers = [number for number in told.get("token_logprobs") or () if number is not None]
    tops = told.get("top_logprobs") or ()
    return tuple(map(float, numbers)), tuple(
        {str(text): float(number) for text, number in (top or {}).items()} for top in tops
    )


def _top(row: Any) -> dict[str, float]:
    return {str(one["token"]): float(one["logprob"]) for one in row.get("top_logprobs") or ()}


_VLLM = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "grammar": "structured_outputs.grammar",
}
SPELLINGS = {
    "vllm": Spelling(
        "vllm",
        reason="stop_reason",
        renames=_VLLM,
        partial={"add_generation_prompt": False, "continue_final_message": True},
        special={"skip_special_tokens": False},
        tokens=True,
    ),
    "sglang": Spelling(
        "sglang",
        reason="matched_stop",
        renames=_VLLM | {"grammar": "ebnf"},
        partial={"continue_final_message": True},
        special={"skip_special_tokens": False},
        tokens=True,
    ),
    "llama-cpp-python": Spelling(
        "llama-cpp-python",
        renames={
            "top_k": "top_k",
            "min_p": "min_p",
            "repeat_penalty": "repeat_penalty",
            "grammar": "grammar",
        },
        uncut=0,
        usage={},
    ),
    "ollama": Spelling("ollama"),
    "openai": Spelling("openai", texts=False),
}
"""By the names that `dialect` takes, beside "llama.cpp" (`native.py`).

Read in the documents and sources of vLLM 0.11 to 0.16 and SGLang 0.5, of which neither was tried live, and in
the source of llama-cpp-python 0.3, which was.
"""
