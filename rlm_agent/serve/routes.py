"""The routes, with what the schema says of them."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Path as PathField
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from rlm_agent.serve.admission import Gate
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.chat import complete
from rlm_agent.serve.chat_schema import ChatCompletion, ChatRequest
from rlm_agent.serve.faults import ErrorBody
from rlm_agent.serve.guard import client_of
from rlm_agent.serve.metrics import CONTENT_TYPE, Metrics
from rlm_agent.serve.orders import Office
from rlm_agent.serve.responses import respond
from rlm_agent.serve.responses_schema import ResponseBody, ResponseRequest

_FAULTS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered."},
    "5XX": {"model": ErrorBody, "description": "The model or the server failed."},
}
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
_STREAM: dict[str, Any] = {"content": {"text/event-stream": {"schema": _EVENT}}}


class ModelCard(BaseModel):
    """A strategy on a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "rlm-agent"


class ModelList(BaseModel):
    """All that is on offer."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """The server runs."""

    status: Literal["ok"] = "ok"
    searches_running: int
    searches_waiting: int


def interfaces(office: Office) -> APIRouter:
    """The routes that search."""
    router = _router("/v1")

    @router.post("/chat/completions", response_model=ChatCompletion, responses={200: _STREAM})
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Search for an answer to the conversation; with `stream`, as server-sent events."""
        return await complete(office, client_of(request.scope), request, body)

    @router.post("/responses", response_model=ResponseBody, responses={200: _STREAM})
    async def create_response(request: Request, body: ResponseRequest) -> Response:
        """Search for an answer to the input; with `stream`, as server-sent events."""
        return await respond(office, client_of(request.scope), request, body)

    return router


def offers(catalogue: Catalogue) -> APIRouter:
    """The routes that say what is on offer."""
    router = _router("/v1/models")
    created = int(time.time())

    @router.get("")
    async def list_models() -> ModelList:
        """All that is on offer."""
        return ModelList(data=[ModelCard(id=name, created=created) for name in catalogue.names])

    @router.get("/{name:path}")
    async def get_model(name: Annotated[str, PathField(max_length=300)]) -> ModelCard:
        """One of those; a model's bare name is that of its first strategy."""
        return ModelCard(id=catalogue.find(name).name, created=created)

    return router


def health(gate: Gate) -> APIRouter:
    """The route that needs no key."""
    router = APIRouter()

    @router.get("/health")
    async def get_health() -> Health:
        """Whether the server answers."""
        return Health(searches_running=gate.running, searches_waiting=gate.waiting)

    return router


def counts(metrics: Metrics) -> APIRouter:
    """The route for Prometheus."""
    router = APIRouter()
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}

    @router.get("/metrics", response_class=Response, responses={200: text, **_FAULTS})
    async def get_metrics() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def _router(prefix: str) -> APIRouter:
    return APIRouter(prefix=prefix, responses=_FAULTS)
