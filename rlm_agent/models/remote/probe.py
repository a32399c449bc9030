"""What a server is and can do, asked once, before the first request."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlm_agent.models.protocols import Message, Request
from rlm_agent.models.remote.client import Client
from rlm_agent.models.remote.native import LlamaServer
from rlm_agent.models.remote.prompting import LocalPrompting, Prompting, ServerPrompting
from rlm_agent.models.remote.spellings import SPELLINGS
from rlm_agent.models.remote.wire import Ask, Dialect
from rlm_agent.structure.errors import (
    AccessError,
    InputError,
    ServerError,
    UnansweredError,
    UnknownNameError,
)

DIALECTS = ("llama.cpp", *SPELLINGS)
_OWNERS = {
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "me": "llama-cpp-python",
    "library": "ollama",
}
"""Who owns the models of a server, as its list of models has it, and what that tells of the server."""

_PROBE = "4 9 10 13 : 24 is a question, isn't it?\nÄ 1234567.89"
"""A text whose tokens tell vocabularies apart."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was asked: how it speaks, the model meant, and what it can do.

    `prompting` makes prompts of tokens; without one, it is given conversations. `logprobs` tells whether it
    gives log-probabilities.
    """

    dialect: Dialect
    model: str
    prompting: Prompting | None
    logprobs: bool


async def probe(
    client: Client,
    model: str | None,
    dialect: str | None,
    local: LocalPrompting | None,
    *,
    logprobs: bool | None,
) -> Server:
    """Ask a server what it is, as far as the caller has not said so.

    Raises `AccessError` for a model that it does not have, `ServerError` for one that cannot be asked, and
    `InputError` where the vocabulary that the caller gave is another model's.
    """
    listed = await _models(client)
    chosen = _chosen(client, listed, model)
    name = dialect or _OWNERS.get(str(chosen.get("owned_by")), "openai")
    if name not in DIALECTS:
        raise UnknownNameError(f"there is no dialect {name!r}; use {', '.join(DIALECTS)}")
    id = str(chosen["id"])
    if name == "llama.cpp" and await _is_native(client):
        prompting = local or ServerPrompting(client)
        if local is not None:
            await _check_vocabulary(client, local)
        return Server(LlamaServer(), id, prompting, logprobs is not False)
    spelling = SPELLINGS.get(name, SPELLINGS["openai"])
    fits = local is not None and spelling.texts
    found = await _gives_logprobs(client, spelling, id) if logprobs is None else logprobs
    return Server(spelling, id, local if fits else None, found)


async def _models(client: Client) -> list[dict[str, Any]]:
    def read(said: Any) -> list[dict[str, Any]]:
        return [{**each, "id": str(each["id"])} for each in said["data"]]

    try:
        return await client.get("models", read)
    except AccessError as error:
        if "404" in str(error):
            return []  # some gateways list no models
        raise


def _chosen(client: Client, listed: list[dict[str, Any]], model: str | None) -> dict[str, Any]:
    if not listed:
        if model is None:
            raise InputError(f"{client.address.shown} lists no models; name one behind a # in its URL")
        return {"id": model}
    if model is None:
        return listed[0]
    for each in listed:
        if model in (each["id"], *(each.get("aliases") or ())):
            return each
    names = ", ".join(each["id"] for each in listed[:5])
    raise AccessError(f"{client.address.shown} has no model {model!r}; it has {names}"[:300])


async def _is_native(client: Client) -> bool:
    """Whether llama.cpp's own endpoints are there, and not hidden behind a gateway."""
    try:
        return await client.post("/tokenize", {"content": "1"}, lambda said: bool(said["tokens"]))
    except UnansweredError:
        raise
    except ServerError:
        return False


async def _check_vocabulary(client: Client, local: LocalPrompting) -> None:
    theirs = await ServerPrompting(client).tokens(_PROBE)
    if theirs != await local.tokens(_PROBE):
        raise InputError(
            f"the tokenizer {local.file.path} is not that of the model at {client.address.shown}; name the "
            "file of that very model, or leave it out"
        )


async def _gives_logprobs(client: Client, spelling: Dialect, model: str) -> bool:
    """Whether a token comes with its log-probability; some servers refuse them, others forget them."""
    request = Request((Message(role="user", content="1"),), "", max_tokens=1, seed=0)
    ask = Ask(request, model, messages=request.messages)
    path, body = spelling.body(ask)
    try:
        return await client.post(path, body, partial(_has_logprobs, spelling, ask), tries=4)
    except AccessError:
        raise
    except ServerError:
        return False


def _has_logprobs(spelling: Dialect, ask: Ask, said: Any) -> bool:
    return bool(spelling.parts(said, ask)[0].logprobs)
