"""External models: the provider protocol, the scripted default, and the pool that asks them all at once."""

from open_r1.external.gather import ExternalPool, Gathered
from open_r1.external.provider import Provider, Request
from open_r1.external.scripted import ScriptedProvider

__all__ = ["ExternalPool", "Gathered", "Provider", "Request", "ScriptedProvider"]
