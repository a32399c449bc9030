"""`rlm-agent serve`: reasoners behind OpenAI's interface."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import InputError, MissingExtraError

_KEYS = "RLM_SERVE_KEYS"
_SEARCHES, _REQUESTS, _SERVER = "Searches", "Requests", "Server"

ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        help="mini, mini-tools, a .gguf file, a server's URL or provider:model, each also as NAME=MODEL; "
        "may be repeated."
    ),
]
StrategyOption = Annotated[
    list[str] | None,
    typer.Option(
        help="name:key=value,…, see `rlm-agent strategies`; may be repeated, the first is the usual one. "
        "All that work with the model if missing, mcts first."
    ),
]
ValueOption = Annotated[
    str | None, typer.Option(help="What values thoughts: head or label of the model, or a .gguf file.")
]
ToolsOption = Annotated[
    bool,
    typer.Option("--tools/--no-tools", help="The tools and the retriever that a specialist's task brings."),
]
HostOption = Annotated[
    str, typer.Option(help="Beyond this machine, a key is demanded.", rich_help_panel=_SERVER)
]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="0 for any that is free.", rich_help_panel=_SERVER)
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        help=f"Clients have to send it; may be repeated. Others see it in the list of processes: {_KEYS} "
        "(several are divided by blanks) and --keys-file are better.",
        rich_help_panel=_SERVER,
    ),
]
KeysFileOption = Annotated[
    Path | None,
    typer.Option(help="TOML: a table a client, with key and limits a minute.", rich_help_panel=_SERVER),
]
ConcurrencyOption = Annotated[
    int, typer.Option(min=1, help="Searches that run at a time.", rich_help_panel=_SEARCHES)
]
QueueOption = Annotated[
    int, typer.Option(min=0, help="Requests that wait; others get 429.", rich_help_panel=_SEARCHES)
]
TokensOption = Annotated[
    int, typer.Option(min=1, help="Budget of a search that names none.", rich_help_panel=_SEARCHES)
]
MaxTokensOption = Annotated[
    int, typer.Option(min=1, help="Largest budget that a request may name.", rich_help_panel=_SEARCHES)
]
MaxSecondsOption = Annotated[
    float, typer.Option(min=0.1, help="Longest time of a search.", rich_help_panel=_SEARCHES)
]
ChoicesOption = Annotated[int, typer.Option(min=1, help="Largest n.", rich_help_panel=_REQUESTS)]
MessagesOption = Annotated[int, typer.Option(min=1, help="Most messages.", rich_help_panel=_REQUESTS)]
BodyOption = Annotated[int, typer.Option(min=1, help="Most bytes.", rich_help_panel=_REQUESTS)]


def serve(
    model: ModelOption = None,
    strategy: StrategyOption = None,
    value: ValueOption = None,
    tools: ToolsOption = True,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    key: KeyOption = None,
    keys_file: KeysFileOption = None,
    concurrency: ConcurrencyOption = 4,
    queue: QueueOption = 64,
    tokens: TokensOption = 4000,
    max_tokens: MaxTokensOption = 100_000,
    max_seconds: MaxSecondsOption = 120.0,
    max_choices: ChoicesOption = 8,
    max_messages: MessagesOption = 256,
    max_body: BodyOption = 1 << 20,
) -> None:
    """Serve strategies on models behind OpenAI's interface, at http://127.0.0.1:8000/v1.

    Any client of OpenAI's gets them by this base URL; docs/serving.md has examples. Ctrl-C waits for the
    searches under way, a second one stops them.
    """
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        _require(package)
    from rlm_agent.evaluation.strategies import parse_strategy
    from rlm_agent.serve.application import create_app
    from rlm_agent.serve.catalogue import Catalogue, names_of
    from rlm_agent.serve.guard import is_loopback
    from rlm_agent.serve.keys import read_keys
    from rlm_agent.serve.limits import Limits
    from rlm_agent.serve.running import Server, listen, url_of

    keyring = read_keys([*(key or []), *os.environ.get(_KEYS, "").split()], keys_file)
    if not keyring and not is_loopback(host):
        raise InputError(
            f"{host} is reached from other machines, and anybody there could search; "
            f"give keys by --keys-file or {_KEYS}, or leave --host out"
        )
    limits = Limits(
        concurrency=concurrency,
        queue=queue,
        tokens=tokens,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
        max_choices=max_choices,
        max_messages=max_messages,
        max_body=max_body,
    )
    strategies = [parse_strategy(text) for text in strategy or ()]
    catalogue = Catalogue(names_of(model or ["mini"]), strategies, value=value, tools=tools)
    app = create_app(catalogue, keyring=keyring, limits=limits)
    listening = listen(host, port)
    with stoppable("the server has ended"):
        Server(app, limits, lambda: _announce(url_of(listening), catalogue.names, bool(keyring))).run(
            [listening]
        )


def _announce(url: str, names: list[str], keyed: bool) -> None:
    header = " -H 'Authorization: Bearer KEY'" if keyed else ""
    body = f'{{"model": "{names[0]}", "messages": [{{"role": "user", "content": "4 9 10 13 : 24"}}]}}'
    print(
        f"rlm-agent serves {len(names)} models at {url}/v1, for example:\n"
        f"  curl {url}/v1/chat/completions{header} -H 'Content-Type: application/json' -d '{body}'",
        file=sys.stderr,
        flush=True,
    )


def _require(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "serve") from error
