"""Which endpoint is asked, for what, and how much at once; see sdg/engines/openai.py."""

import ipaddress
import os
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from sdg.engines.base import Engine, Resources
from sdg.errors import UserError
from sdg.schema import Call

DEFAULT_URL = "https://api.openai.com/v1"  # the SDK's own
RESERVED = frozenset(
    {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed"}
    | {"response_format", "n", "stream"}
)


class OpenAISettings(Engine):
    """An endpoint and how to ask it. `base_url` "" is $OPENAI_BASE_URL, or else OpenAI's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    speed_only: ClassVar[frozenset[str]] = frozenset(
        {
            "replicas",
            "concurrency",
            "min_concurrency",
            "timeout_s",
            "max_attempts",
            "shards_in_flight",
        }
    )

    name: Literal["openai"] = "openai"
    base_url: str = ""
    replicas: int = Field(default=1, ge=1)  # workers that ask, each as much as is said below
    # Requests in flight, over all shards: as many as the endpoint bears, within these bounds.
    concurrency: int = Field(default=32, ge=1)
    min_concurrency: int = Field(default=1, ge=1)
    timeout_s: float = Field(default=120, gt=0)  # for one whole answer
    max_attempts: int = Field(default=5, ge=1)  # of a row that fails while others are answered
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    # OpenAI's reasoning models know the newer name alone, most other servers the older.
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra_body: dict[str, Any] = {}  # merged into every request's JSON
    shards_in_flight: int = Field(default=4, ge=1)

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, base_url: str) -> str:
        return checked_url(base_url, "engine.base_url") if base_url else ""

    @field_validator("extra_body")
    @classmethod
    def _not_reserved(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(RESERVED & extra_body.keys())
        if taken:
            raise ValueError(f"engine.extra_body.{taken[0]}: comes from the prompt or the engine")
        return extra_body

    def shaping(self) -> dict[str, Any]:
        # Not the URL: a server that moves is the same model still.
        return {"structured": self.structured, "extra_body": self.extra_body}

    def reply_schema(self, call: Call) -> dict[str, Any] | None:
        return super().reply_schema(call) if self.structured == "json_schema" else None

    def resources(self) -> Resources:
        return Resources(replicas=self.replicas, shards_in_flight=self.shards_in_flight)

    def endpoint(self) -> tuple[str, str]:
        """URL and key; an endpoint at home needs no key.

        Raises:
            UserError: no key for an endpoint elsewhere, or $OPENAI_BASE_URL is no URL.
        """
        url = self.base_url
        if not url:
            url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL
            try:
                url = checked_url(url, "OPENAI_BASE_URL")
            except ValueError as error:
                raise UserError(str(error)) from None
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and not at_home(url):
            raise UserError(
                f"ENGINE=openai at {url} needs a key: set OPENAI_API_KEY in the environment, or "
                f"engine.base_url to a server of your own"
            )
        return url, key or "none"


def checked_url(url: str, where: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"{where}: must hold no user, password or query, as it is written into every run's "
            f"manifest; give the key in OPENAI_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{where}: not a URL such as http://localhost:8000/v1")
    return url.rstrip("/")


def at_home(url: str) -> bool:
    """Whether the host is this machine, a private address or a name without a public domain."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private  # loopback included
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))
