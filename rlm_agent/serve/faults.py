"""What goes wrong, in the shape that OpenAI's clients read."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlm_agent.structure.errors import (
    BudgetError,
    InputError,
    ProblemError,
    PromptTooLongError,
    RlmError,
    UnknownNameError,
)

_log = logging.getLogger("rlm_agent.serve")
_INVALID = "invalid_request_error"
_TYPES = {401: "authentication_error", 404: _INVALID, 429: "rate_limit_error"}
_CODES: dict[type[InputError], str] = {
    PromptTooLongError: "context_length_exceeded",
    BudgetError: "invalid_budget",
    ProblemError: "invalid_problem",
    UnknownNameError: "unknown_name",
}


class ErrorDetail(BaseModel):
    """What went wrong, and which field is to blame."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


class Fault(HTTPException):
    """An answer that is an error; no error of the package's own, as it is for clients alone."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.param = param
        self.code = code


def client_left() -> Fault:
    """What is noted of a client that does not wait; nobody reads it."""
    return Fault(499, "the client has left", code="client_left")


def fault_of(error: Exception) -> Fault:
    """What a client is told of an error; what is not the client's own doing is logged, and not shown."""
    match error:
        case Fault():
            return error
        case InputError():
            return Fault(400, str(error), code=_CODES.get(type(error), "invalid_value"))
        case TimeoutError():
            return Fault(504, "the search took too long; ask for a smaller budget", code="timeout")
        case _:
            _log.error("a request failed", exc_info=error)
            whose = "the model" if isinstance(error, RlmError) else "the server"
            return Fault(500, f"{whose} failed; its log says why", code="internal_error")


def body_of(fault: HTTPException) -> ErrorBody:
    """The body that tells of a fault."""
    other = _INVALID if fault.status_code < 500 else "server_error"
    return ErrorBody(
        error=ErrorDetail(
            message=str(fault.detail),
            type=_TYPES.get(fault.status_code, other),
            param=getattr(fault, "param", None),
            code=getattr(fault, "code", None),
        )
    )


def response_of(fault: HTTPException) -> Response:
    """The whole response."""
    # ASCII, because what is quoted need not be text that UTF-8 can write.
    headers = dict(fault.headers or {})
    return Response(
        body_of(fault).model_dump_json(ensure_ascii=True),
        fault.status_code,
        headers,
        media_type=JSONResponse.media_type,
    )


def handle_faults(app: FastAPI) -> None:
    """Have all errors of an app answered in this shape."""

    async def told(request: Request, error: Exception) -> Response:
        return response_of(error if isinstance(error, HTTPException) else fault_of(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response_of(_of_validation(error.errors()))

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        RequestValidationError: invalid,
        HTTPException: told,
        RlmError: told,
        TimeoutError: told,
        Exception: told,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _of_validation(errors: Any) -> Fault:
    """The first of what pydantic found, without the input that it found it in."""
    first = errors[0]
    place = [str(part) for part in first["loc"][1:]]
    param = ".".join(place) or None
    unknown = first["type"] == "extra_forbidden"
    return Fault(
        400,
        f"{param or 'body'}: {first['msg']}"[:500],
        param=param and param[:200],
        code="unknown_parameter" if unknown else "invalid_value",
    )
