"""External models: the provider protocol, the scripted default, the store of replies, the pool that asks them all."""

from open_r1.external.pool import ExternalPool, Gathered
from open_r1.external.provider import Provider, Request
from open_r1.external.scripted import ScriptedProvider
from open_r1.external.store.stored_provider import StoredProvider, keep_replies, open_store

__all__ = [
    "ExternalPool",
    "Gathered",
    "Provider",
    "Request",
    "ScriptedProvider",
    "StoredProvider",
    "keep_replies",
    "open_store",
]
