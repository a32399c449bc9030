"""llama.cpp's own `/completion`: prompts as tokens, and an end that says what it was."""

from collections.abc import Sequence
from typing import Any

from rlm_agent.models.protocols import Finish, Request
from rlm_agent.models.remote.wire import SEEDS, Ask, Part, Usage
from rlm_agent.structure.errors import InputError

_ORDER = ("penalties", "top_k", "top_p", "min_p", "temperature")
"""The order of `Decoding`; llama.cpp's own has more samplers in it, which may be on by default."""


class LlamaServer:
    """The dialect of llama.cpp's server, after its README and what it answers (build of October 2026).

    Unlike here, its penalties look at the prompt, too, its answers depend on who shares the batch, and it
    gives no log-probability of what a stop took away.
    """

    name = "llama.cpp"
    tells = True
    tokens = True
    continues = False
    alternatives = 500

    def body(self, ask: Ask) -> tuple[str, dict[str, Any]]:
        """See `Dialect`."""
        request, how = ask.request, ask.request.decoding
        if how.stop_tokens:
            raise InputError("llama.cpp's server stops at no token by its number; name its text in a format")
        special = [*request.stop_tokens, *request.end_tokens]
        body: dict[str, Any] = {
            "model": ask.model,
            "prompt": list(ask.prompt or ()),
            "n_predict": request.max_tokens,
            "seed": request.seed % SEEDS,
            "stop": list(dict.fromkeys((*request.stop, *request.end_tokens))),
            "temperature": how.temperature,
            "top_k": how.top_k,
            "top_p": how.top_p,
            "min_p": how.min_p,
            "repeat_penalty": how.repeat_penalty,
            "repeat_last_n": how.penalized,
            "presence_penalty": how.presence_penalty,
            "frequency_penalty": how.frequency_penalty,
            "samplers": list(_ORDER),
            "cache_prompt": True,
            "stream": ask.stream,
        }
        # So the text of a special token is seen, and stops.
        body |= {"preserved_tokens": special} if special else {}
        body |= {"logit_bias": [list(pair) for pair in how.logit_bias]} if how.logit_bias else {}
        body |= {"grammar": how.grammar} if how.grammar is not None else {}
        body |= {"n_probs": max(1, ask.logprobs)} if ask.logprobs is not None else {}
        return "/completion", body

    def parts(self, said: Any, ask: Ask) -> Sequence[Part]:
        """See `Dialect`."""
        ended = bool(said.get("stop"))
        told = said.get("completion_probabilities") or () if not (ended and ask.stream) else ()
        usage = None
        if ended:
            cached, prompt = int(said["timings"]["cache_n"]), int(said["tokens_evaluated"])
            usage = Usage(prompt, cached, int(said["tokens_predicted"]))
        return [
            Part(
                text=str(said["content"]),
                logprobs=tuple(float(each["logprob"]) for each in told),
                alternatives=tuple(map(_alternatives, told)),
                finish=_finish(said, ask.request) if ended else None,
                usage=usage,
            )
        ]


def _finish(said: Any, request: Request) -> Finish:
    match said["stop_type"]:
        case "limit":
            return "length"
        case "word":
            return "end" if said["stopping_word"] in request.end_tokens else "stop"
        case _:
            return "end"


def _alternatives(told: Any) -> dict[str, float]:
    return {str(one["token"]): float(one["logprob"]) for one in told["top_logprobs"]}
