"""The most that a request to one model can cost, which learns from what was billed."""

from open_r1.external.hosted.prices import Price
from open_r1.external.hosted.usage import Usage

OVERRUNS = 2  # bills above the bound, as it was known by then, after which a model is asked no more


class Bound:
    """Tokens of a prompt and of a reply at most, in dollars.

    Both start from rules (`prices.prompt_tokens`) and `max_tokens`. Where a server bills more, the bound grows with it:
    servers count prompts in ways of their own, and some bill hidden reasoning on top of max_tokens. One that bills more
    than even that once more has no bound that a budget could hold by.
    """

    def __init__(self, max_tokens: int, price: Price | None):
        """Bound requests for replies of `max_tokens`; without a price all bounds are 0."""
        self.max_tokens, self.price, self.overruns = max_tokens, price, 0
        self._prompt_scale = self._reply_scale = 1.0  # how far beyond rule and max_tokens a server billed

    def usd(self, prompt_tokens: int, replies: int, requests: int = 1) -> float:
        """Dollars that `requests` of one prompt for `replies` in all cost at most."""
        if self.price is None:
            return 0.0
        prompts = requests * self._prompt_scale * prompt_tokens * self.price.prompt
        return prompts + replies * self._reply_scale * self.max_tokens * self.price.completion

    def learn(self, prompt_tokens: int, replies: int, usage: Usage) -> bool:
        """Take in what a request for `replies` was billed; returns whether that was above its bound."""
        above = self.price is not None and self.price.cost(usage) > self.usd(prompt_tokens, replies) * (1 + 1e-9)
        self.overruns += above
        self._prompt_scale = max(self._prompt_scale, usage.prompt / prompt_tokens)
        self._reply_scale = max(self._reply_scale, usage.completion / (replies * self.max_tokens))
        return above

    @property
    def broken(self) -> bool:
        """Whether the model bills what nobody can foresee."""
        return self.overruns >= OVERRUNS
