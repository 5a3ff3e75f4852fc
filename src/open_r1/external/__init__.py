"""Teachers: takes requests (a prompt, how many replies), hands back replies or failures, in time and within budget."""

from open_r1.external.gather import Gathered, Gatherer
from open_r1.external.provider import Provider, Request
from open_r1.external.scripted import ScriptedProvider
from open_r1.external.store.stored_provider import StoredProvider, behind_store, open_store

__all__ = [
    "Gathered",
    "Gatherer",
    "Provider",
    "Request",
    "ScriptedProvider",
    "StoredProvider",
    "behind_store",
    "open_store",
]
