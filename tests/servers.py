"""Real servers of models, each a process of its own: `python -m tests.servers llama.cpp mini.gguf …`.

`llama.cpp` is llama.cpp's own server, which xllamacpp brings along, and `llama_cpp` that of llama-cpp-python.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
MINI = ROOT / "rlm_agent" / "models" / "weights" / "mini.gguf"
_PATIENCE = 60.0


@contextmanager
def serving(kind: str, model: Path = MINI, **options: Any) -> Iterator[str]:
    """A server as long as the context lasts; its URL, without a path. `options` are those of `main`."""
    told = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "tests.servers", kind, str(model), *told]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        _await(url, process)
        yield url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def counted(url: str) -> dict[str, float]:
    """What llama.cpp's server says of itself at `/metrics`, by name without `llamacpp:`."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    pairs = [line.removeprefix("llamacpp:").split() for line in lines if not line.startswith("#")]
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


def _await(url: str, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/v1/models").status_code in (200, 401):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the server at {url!r} did not start")


def _llama(arguments: argparse.Namespace) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * arguments.context
    params.n_gpu_layers = 0
    params.flash_attn_type = xllamacpp.llama_flash_attn_type(arguments.flash)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.n_threads_http = arguments.slots + 4
    params.endpoint_metrics = True
    params.verbosity = 0
    params.ui = False
    params.port = 0
    if arguments.key:
        params.api_keys = [arguments.key]
    if arguments.certificate:
        params.ssl_file_cert, params.ssl_file_key = arguments.certificate, arguments.private
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201  the parent waits for it
    threading.Event().wait()


def _llama_cpp(arguments: argparse.Namespace) -> None:
    import socket

    import uvicorn
    from llama_cpp.server.app import create_app
    from llama_cpp.server.settings import ModelSettings, ServerSettings

    model = ModelSettings(
        model=arguments.model,
        n_ctx=arguments.context,
        n_threads=arguments.threads,
        n_gpu_layers=0,
        logits_all=arguments.logits,
        verbose=False,
    )
    app = create_app(server_settings=ServerSettings(api_key=arguments.key), model_settings=[model])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


def main() -> None:
    """Serve a model until the process is killed; the first line printed is the URL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["llama.cpp", "llama_cpp"])
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=512, help="tokens of each slot")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flash", type=int, default=-1, help="attention: 1 flash, 0 plain, -1 by itself")
    parser.add_argument("--key")
    parser.add_argument("--certificate")
    parser.add_argument("--private")
    parser.add_argument("--logits", type=int, default=0)
    arguments = parser.parse_args()
    (_llama if arguments.kind == "llama.cpp" else _llama_cpp)(arguments)


if __name__ == "__main__":
    main()
