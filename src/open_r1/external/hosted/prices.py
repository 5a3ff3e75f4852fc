"""What a call costs: litellm's price table, and the tokens of pictures.

The table is read without importing litellm, which takes seconds. Amounts are dollars, prices dollars per token. An
unknown price is None, never 0.
"""

import functools
import importlib.util
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from open_r1.external.hosted.usage import Usage, read_usage
from open_r1.recipe.settings import ExternalModelConfig

# Providers whose models are named by whoever runs the server, so that no table knows them.
OWN_SERVERS = {"openai", "hosted_vllm", "litellm_proxy", "custom_openai"}
BYTES_PER_TOKEN = 2  # of text, for upper bounds; English has about 4
TURN_TOKENS = 32  # what a chat template adds, at most
BASE, TILE = 85, 170  # OpenAI's: tokens of a picture, and of each of its 512 x 512 tiles


class Price(NamedTuple):
    """Dollars per token."""

    prompt: float
    completion: float
    cached: float  # prompt tokens that the provider had at hand already

    def cost(self, usage: Usage) -> float:
        """What a request cost, in dollars."""
        fresh = usage.prompt - usage.cached
        return fresh * self.prompt + usage.cached * self.cached + usage.completion * self.completion

    def usd(self, reported: Mapping[str, object]) -> float | None:
        """What a request cost by the token counts that a server reported; None where it reported none to believe."""
        usage = read_usage(reported)
        return None if usage is None else self.cost(usage)


@functools.cache
def price_table() -> dict[str, dict[str, Any]]:
    """Litellm's table of models, from the file in its package; held against litellm itself by a test."""
    spec = importlib.util.find_spec("litellm")  # finds it without running it
    assert spec is not None and spec.origin is not None, "litellm is a dependency"
    file = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    return json.loads(file.read_text(encoding="utf-8"))


def table_entry(model: str) -> dict[str, Any] | None:
    """The table's entry of a model, its provider's prefix given or not; None where the table has none."""
    provider, _, name = model.partition("/")
    entry = price_table().get(model)
    if entry is None and name:
        entry = price_table().get(name)
        entry = entry if entry and entry.get("litellm_provider") == provider else None
    return entry


def price(model: ExternalModelConfig) -> Price | None:
    """The recipe's price of a model, else the table's; None where neither knows it."""
    if model.usd_per_million_in is not None and model.usd_per_million_out is not None:
        return Price(model.usd_per_million_in / 1e6, model.usd_per_million_out / 1e6, model.usd_per_million_in / 1e6)
    entry = table_entry(model.model) if not model.api_base else None  # an own server's price is nobody's list price
    if not entry or "input_cost_per_token" not in entry:
        return None
    prompt = entry["input_cost_per_token"]
    return Price(prompt, entry.get("output_cost_per_token", 0.0), entry.get("cache_read_input_token_cost", prompt))


def image_tokens(model: str, width: int, height: int) -> int:
    """Tokens that a picture of this size in pixels is billed as: the provider's rule, rounded up.

    OpenAI's rule shrinks to 2048 and then to a short side of 768 pixels and counts tiles of 512; its small models count
    a tile for more, or patches of 32 x 32. Anthropic counts 750 pixels, Gemini tiles of 768, Qwen2-VL 28 x 28 pixels
    to a token; of any other model the larger of OpenAI's and Qwen's count is taken.
    """
    shrunk = min(1.0, 2048 / max(width, height))
    shrunk *= min(1.0, 768 / (min(width, height) * shrunk))
    tiles = math.ceil(width * shrunk / 512) * math.ceil(height * shrunk / 512)
    if "gpt-4o-mini" in model:
        return 2833 + 5667 * tiles
    if re.search(r"(gpt-|\bo\d).*(mini|nano)", model):
        return math.ceil(2.46 * min(1536, math.ceil(width / 32) * math.ceil(height / 32)))
    if "claude" in model:
        return math.ceil(width * height / 750)
    if "gemini" in model:
        return max(1120, 258 * math.ceil(width / 768) * math.ceil(height / 768))
    if re.match(r"(openai/)?(gpt|chatgpt|o\d)", model):
        return BASE + TILE * tiles
    return max(BASE + TILE * tiles, math.ceil(width / 28 + 1) * math.ceil(height / 28 + 1))


def prompt_tokens(model: str, text: str, sizes: list[tuple[int, int]], bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """Tokens of a prompt at most: its text, its pictures by `image_tokens`, and the chat template's."""
    words = math.ceil(len(text.encode(errors="replace")) / bytes_per_token)
    return words + TURN_TOKENS + sum(image_tokens(model, width, height) for width, height in sizes)
