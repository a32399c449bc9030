"""A model behind OpenAI's API as a policy of searches: vLLM, SGLang, llama.cpp, Ollama, hosted ones."""

import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from rlm_agent.models.embedded import model_file
from rlm_agent.models.gguf.advice import decoding_in, prompts_in
from rlm_agent.models.protocols import Completion, Piece, Request
from rlm_agent.models.remote import loop
from rlm_agent.models.remote.address import address_of, options_of
from rlm_agent.models.remote.batch import Batch
from rlm_agent.models.remote.client import Client, Meter, Patience
from rlm_agent.models.remote.probe import Server, probe
from rlm_agent.models.remote.prompting import LocalPrompting
from rlm_agent.structure.ids import fingerprint


class RemotePolicy:
    """A policy over a server at `url`, asked for all requests of a batch at once, as far as it bears that.

    model: its name at the server; by default the first one there.
    tokenizer: the GGUF file with the model's vocabulary and chat template, or the name of an embedded model.
        Prompts then are tokens, as they would be in this process, and what the file says of its task, prompts
        and decoding holds.
        llama.cpp's server does without.
    task: the only task that the model knows.
    api_key: by default RLM_API_KEY in the environment, see `address_of`.
    dialect: one of `DIALECTS`, where the server does not say what it is.
    siblings: whether requests that differ in their seeds alone go as one with `n`. It spares hosted servers
        the prompts; the draws then depend on the first seed, so that only the same batch brings the same
        texts.
    logprobs: whether log-probabilities are asked for; by default where the server has them.

    Behind a `#` in the URL may stand the model's name, or any of `OPTIONS`, as in
    `http://HOST/v1#model=NAME&task=game24`.

    A partial turn is continued as tokens (llama.cpp; vLLM and SGLang with a `tokenizer`), by the server's own
    means (vLLM, SGLang), or else in words, as `ChatModelPolicy` does it. Where the server does not tell stops
    from ends, answers are streamed and left at the first stop. Seeds decide the draws as far as the server
    heeds them; who shares its batch may still change the last bits.

    An answer is counted once, however many tries it took. What failed tries cost no server tells: it stands
    in no budget, and `meter` counts the tries. A request that fails comes back as an error. Raised are:
    `AccessError` and `ServerError` for what will not change, `UnansweredError` where none of a batch was
    answered, `PromptTooLongError` for a question that does not fit, `InputError` for what the server lacks.
    There is no `Trace`, and `code` is not heeded. Safe to share between threads and event loops.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        tokenizer: str | Path | None = None,
        task: str | None = None,
        api_key: str | SecretStr | None = None,
        dialect: str | None = None,
        siblings: bool = False,
        logprobs: bool | None = None,
        concurrency: int = 64,
        patience: Patience | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        plain, options = options_of(url)
        address = address_of(plain, api_key)
        self._model = model or options.get("model")
        self._dialect = dialect or options.get("dialect")
        self._siblings = siblings
        self._logprobs = logprobs
        file = tokenizer or options.get("tokenizer")
        self.local = None if file is None else LocalPrompting(model_file(file))
        metadata = {} if self.local is None else self.local.file.metadata
        self.task: str | None = task or options.get("task") or metadata.get("rlm.task")
        self.prompts = prompts_in(metadata)
        self.decoding = decoding_in(metadata)
        self.client = Client(address, patience or Patience(), concurrency, verify)
        vocabulary = self.local.file.identity if self.local is not None else None
        told = fingerprint(vocabulary, self._dialect, siblings)
        self.identity = f"remote:{address.shown}:{self._model or 'default'}:{told}"
        self._server: Server | None = None

    @property
    def meter(self) -> Meter:
        """What was asked so far, failed tries included."""
        return self.client.meter

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a request that fails comes back with `finish='error'`."""
        return loop.run(self._batch(requests)) if requests else []

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `generate`; cancelling it leaves the server at once."""
        return await loop.arun(self._batch(requests)) if requests else []

    def stream(self, requests: Sequence[Request]) -> Generator[Piece | list[Completion]]:
        """See `Streaming`."""
        with closing(loop.listen(partial(self._batch, requests))) as told:
            yield from told

    async def astream(self, requests: Sequence[Request]) -> AsyncGenerator[Piece | list[Completion]]:
        """See `stream`; the event loop stays free."""
        async with aclosing(loop.alisten(partial(self._batch, requests))) as told:
            async for one in told:
                yield one

    def probe(self) -> Server:
        """What the server is; asked once. Raises what `generate` raises."""
        return loop.run(self.server())

    def close(self) -> None:
        """Close all connections; what is asked afterwards opens new ones."""
        loop.run(self.client.close())

    async def server(self) -> Server:
        """See `probe`; runs on the loop of `loop.py` alone."""
        async with self.client.lock:
            if self._server is None:
                self._server = await probe(
                    self.client, self._model, self._dialect, self.local, logprobs=self._logprobs
                )
            return self._server

    async def _batch(
        self, requests: Sequence[Request], emit: loop.Emit[Piece] | None = None
    ) -> list[Completion]:
        batch = Batch(self.client, await self.server(), requests, emit)
        return await batch.completions(siblings=self._siblings)
