"""Inventory: what a store holds per model and task, graded by the task's own grader."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from open_r1.external.failures import why_blank
from open_r1.external.store.ledger import Account, Ledger
from open_r1.external.store.replies import ReplyKey, Store
from open_r1.schema import Reply
from open_r1.tasks import get_task
from open_r1.utils.markdown import markdown

HEAD = ["model", "task", "prompt", "prompts", "replies", "accuracy", "prompts by right replies", "tokens", "dollars"]
IN_DOUBT = (
    "in doubt: bounds of calls of which nobody knows what they cost (cut off, unreadable, without token counts). They"
    " count against the budget until you settle them by the provider's bill, what all calls of the model from this"
    " store cost together: make store SETTLE=MODEL=DOLLARS"
)


@dataclass
class Holding:
    """The replies of one model, at one setting of it, to one prompt of one task."""

    model: str
    task: str
    kind: str
    replies: int = 0  # with text
    accuracy: float = 0.0  # sum over replies of the grader's accuracy part
    solved: Counter[int] = field(default_factory=Counter[int])  # prompts by how many of their replies are wholly right
    tokens: int = 0  # of the replies, where the model counts them
    usd: float = 0.0  # what the replies cost, where that is known; imported and blank ones included
    blank: list[Reply] = field(default_factory=list[Reply])  # paid for and empty: no replies

    def count(self, asked: ReplyKey, replies: Sequence[Reply]) -> None:
        """Grade the replies to one question at the first setting of its task's grader, and add them."""
        task = get_task(asked.prompt.task)
        with_text = [reply for reply in replies if reply.text.strip()]
        right = [task.grade(reply.text, asked.answer, task.settings[0]).accuracy for reply in with_text]
        self.replies += len(with_text)
        self.blank += [reply for reply in replies if not reply.text.strip()]
        self.accuracy += sum(right)
        self.solved[sum(accuracy == 1 for accuracy in right)] += 1
        self.tokens += sum(reply.completion_tokens or 0 for reply in replies)
        self.usd += sum(reply.cost_usd or 0.0 for reply in replies)

    def cells(self) -> list[str]:
        """The holding's line of the table."""
        prompts = sum(self.solved.values())
        solved = ", ".join(f"{right}: {100 * self.solved[right] / prompts:.0f} %" for right in sorted(self.solved))
        accuracy = f"{100 * self.accuracy / self.replies:.1f} %" if self.replies else "-"
        amounts = [f"{self.tokens:,}", f"{self.usd:.4f}"]
        return [self.model, self.task, self.kind, f"{prompts:,}", f"{self.replies:,}", accuracy, solved, *amounts]


def holdings(store: Store, task: str | None = None) -> list[Holding]:
    """Grade every reply of a task, or of all."""
    found: dict[tuple[str, ...], Holding] = {}
    with tqdm(total=store.count(task), desc="grading", unit="reply", delay=2, leave=False) as bar:
        for asked, replies in store.everything(task):
            name, kind = asked.prompt.task, asked.prompt.kind
            one = found.setdefault((asked.model, asked.fingerprint, name, kind), Holding(asked.model, name, kind))
            one.count(asked, replies)
            bar.update(len(replies))
    return list(found.values())


def describe(store: Store, ledger: Ledger, task: str | None = None) -> str:
    """What the store holds and what its ledger says, as Markdown."""
    held, accounts = holdings(store, task), ledger.accounts()
    table = markdown(HEAD, [holding.cells() for holding in held]) if held else "no replies yet\n"
    blank = [
        f"{holding.model}: {len(holding.blank):,} further replies are blank and count as none{why_blank(holding.blank)}"
        for holding in held
        if holding.blank
    ]
    lines = [account_line(model, account) for model, account in accounts.items()]
    doubts = [IN_DOUBT] if any(account.in_doubt_usd for account in accounts.values()) else []
    return f"{store.database.path}\n\n{table}\n" + "\n".join([*blank, *lines, *doubts])


def account_line(model: str, account: Account) -> str:
    """What one model has cost."""
    doubt = f", {account.in_doubt_usd:.4f} $ in doubt" if account.in_doubt_usd else ""
    return f"ledger: {model}: {account.spent_usd:.4f} $ for {account.calls:,} calls{doubt}"
