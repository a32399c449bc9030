"""What a model's file says of how it is best asked, in its metadata."""

from collections.abc import Mapping
from dataclasses import fields

from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Decoding


def prompts_in(metadata: Mapping[str, str]) -> Prompts:
    """What a file names under `rlm.ask.*`: all that a specialist knows; a general model knows the rest."""
    known = {field.name: metadata.get(f"rlm.ask.{field.name}") for field in fields(Prompts)}
    named = {skill: pattern for skill, pattern in known.items() if pattern}
    return Prompts.lacking(**named) if "rlm.task" in metadata else Prompts(**named)


def decoding_in(metadata: Mapping[str, str]) -> Decoding:
    """What the file's `general.sampling.*` say, llama.cpp's own keys; what is absent or broken is default."""
    plain = Decoding()

    def read(key: str, default: float, low: float, high: float) -> float:
        try:
            number = float(metadata[f"general.sampling.{key}"])
        except (KeyError, ValueError):
            return default
        return number if low <= number <= high else default

    return Decoding(
        temperature=read("temp", plain.temperature, 0, 100),
        top_k=int(read("top_k", plain.top_k, 0, 1e6)),
        top_p=read("top_p", plain.top_p, 1e-6, 1),
        min_p=read("min_p", plain.min_p, 0, 1),
    )
