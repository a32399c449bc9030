"""Where a model is served: a URL that the user gave, what stands behind its `#`, and the key for it.

A key is kept as a secret and given to one place only, the header of a request. It is in no text that
anybody reads: not in a `repr`, an identity, an error or a log.
"""

import os
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import SecretStr

from rlm_agent.structure.errors import InputError, UnknownNameError

OPTIONS = ("model", "tokenizer", "task", "dialect", "squash")
"""What may stand behind the `#` as `name=value`, joined by `&`."""

_SCHEMES = ("http", "https")
_HOSTED = "api.openai.com"
_NO_SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Address:
    """The `url` of an API, which ends where `/chat/completions` would begin, and a `key` for it.

    `shown` is what errors and identities call it.
    """

    url: str
    key: SecretStr | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise UnknownNameError(f"{self.shown!r} is no URL of a server; write http://HOST:PORT/v1")
        if parts.username is not None or parts.password is not None:
            raise InputError(f"the URL {self.shown} holds a password; give it as api_key or in RLM_API_KEY")
        if self.key is not None and not _NO_SECRET.fullmatch(self.key.get_secret_value()):
            raise InputError(
                f"the key for {self.shown} is empty or holds spaces or line breaks; copy it again"
            )

    def __reduce__(self) -> NoReturn:
        """An address is stored nowhere, and its key with it: `TypeError` for whoever pickles or copies it."""
        raise TypeError("a remote model cannot be pickled or copied; make it anew from its URL")

    @property
    def shown(self) -> str:
        """The URL without anything that could be a secret."""
        try:
            parts = urlsplit(self.url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "(not a URL)"
        return urlunsplit((parts.scheme, f"{parts.hostname or ''}{port}", parts.path, "", ""))

    @property
    def root(self) -> str:
        """The URL without the version at its end, where servers have what is not OpenAI's."""
        parts = urlsplit(self.url)
        path = re.sub(r"/v\d+/?$", "", parts.path).rstrip("/")
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))

    def at(self, path: str) -> str:
        """The URL of `path`: beneath the API, or beneath its root if it begins with a slash."""
        parts = urlsplit(self.root if path.startswith("/") else self.url)
        return urlunsplit(
            (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{path.lstrip('/')}", parts.query, "")
        )


def address_of(url: str, api_key: str | SecretStr | None = None) -> Address:
    """The address of a URL, with this key or else the one in the environment.

    RLM_API_KEY goes to whatever server the user names; OPENAI_API_KEY only to OpenAI's own, or to the one in
    OPENAI_BASE_URL: somebody else's server is not told it. A URL without a path means `/v1`.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UnknownNameError("this is no URL of a server; write http://HOST:PORT/v1") from None
    path = parts.path if parts.path.strip("/") else "/v1"
    plain = urlunsplit((parts.scheme, parts.netloc, path.rstrip("/"), parts.query, ""))
    return Address(plain, _key(api_key, host or ""))


def options_of(url: str) -> tuple[str, dict[str, str]]:
    """A URL, and what stands behind its `#`: the name of a model, or `OPTIONS` as `name=value&…`."""
    plain, _, rest = url.partition("#")
    if not rest:
        return plain, {}
    if not re.match(r"[a-z]+=", rest):
        return plain, {"model": rest}
    named = dict(parse_qsl(rest, keep_blank_values=True))
    for name in named:
        if name not in OPTIONS:
            raise UnknownNameError(f"a server's URL has no option {name!r}; use {', '.join(OPTIONS)}")
    return plain, named


def _key(given: str | SecretStr | None, host: str) -> SecretStr | None:
    if isinstance(given, SecretStr):
        return given
    found = given if given is not None else os.environ.get("RLM_API_KEY") or None
    base = os.environ.get("OPENAI_BASE_URL", "")
    if found is None and host and host in (_HOSTED, urlsplit(base).hostname):
        found = os.environ.get("OPENAI_API_KEY") or None
    return SecretStr(found) if found is not None else None
