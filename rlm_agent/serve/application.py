"""The app: routes behind the guard."""

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from rlm_agent import __version__
from rlm_agent.serve.admission import Gate
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.faults import handle_faults
from rlm_agent.serve.guard import Guard
from rlm_agent.serve.keys import Keyring
from rlm_agent.serve.limits import Limits
from rlm_agent.serve.metrics import Metrics
from rlm_agent.serve.orders import Office
from rlm_agent.serve.routes import counts, health, interfaces, offers
from rlm_agent.serve.searching import Desk

# The guard has checked the key already; this says so in the schema.
_KEY = Depends(HTTPBearer(auto_error=False))


def create_app(
    catalogue: Catalogue, *, keyring: Keyring | None = None, limits: Limits | None = None
) -> Guard:
    """An ASGI app that serves the reasoners of a catalogue.

    keyring: the keys that open it, by default none, and then it answers to localhost alone.
    """
    limits, keyring = limits or Limits(), keyring or Keyring()
    gate = Gate(limits)
    metrics = Metrics(gate)
    office = Office(catalogue, limits, Desk(gate, metrics))
    app = FastAPI(
        title="rlm-agent",
        version=__version__,
        summary="Reasoning by search, behind OpenAI's interface.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(health(gate))
    for router in (interfaces(office), offers(catalogue), counts(metrics)):
        app.include_router(router, dependencies=[_KEY] if keyring else [])
    handle_faults(app)
    return Guard(app, keyring, metrics, max_body=limits.max_body, patience=limits.body_seconds)
