"""Inventory: what a store holds per model and task, graded by the task's own grader."""

from collections import Counter
from dataclasses import dataclass, field

from tqdm import tqdm

from open_r1.external.store.ledger import Ledger
from open_r1.external.store.replies import ReplyKey, Store
from open_r1.schema import Reply
from open_r1.tasks import get_task
from open_r1.utils.markdown import markdown

HEAD = ["model", "task", "prompt", "prompts", "replies", "accuracy", "prompts by right replies", "tokens", "dollars"]


@dataclass
class Holding:
    """The replies of one model, at one setting of it, to one prompt of one task."""

    model: str
    task: str
    kind: str
    replies: int = 0
    accuracy: float = 0.0  # sum over replies of the grader's accuracy part
    solved: Counter[int] = field(default_factory=Counter)  # prompts by how many of their replies are wholly right
    tokens: int = 0  # of the replies, where the model counts them
    usd: float = 0.0  # what the replies cost, where that is known; imported ones included

    def count(self, asked: ReplyKey, told: list[Reply]) -> None:
        """Grade the replies to one question at the first setting of its task's grader, and add them."""
        task = get_task(asked.prompt.task)
        right = [task.grade(reply.text, asked.answer, task.settings[0]).accuracy for reply in told]
        self.replies += len(told)
        self.accuracy += sum(right)
        self.solved[sum(accuracy == 1 for accuracy in right)] += 1
        self.tokens += sum(reply.completion_tokens or 0 for reply in told)
        self.usd += sum(reply.cost_usd or 0.0 for reply in told)

    def cells(self) -> list[str]:
        """The holding's line of the table."""
        prompts = sum(self.solved.values())
        solved = ", ".join(f"{right}: {100 * self.solved[right] / prompts:.0f} %" for right in sorted(self.solved))
        accuracy = f"{100 * self.accuracy / self.replies:.1f} %"
        amounts = [f"{self.tokens:,}", f"{self.usd:.4f}"]
        return [self.model, self.task, self.kind, f"{prompts:,}", f"{self.replies:,}", accuracy, solved, *amounts]


def holdings(store: Store, task: str | None = None) -> list[Holding]:
    """Grade every reply of a task, or of all."""
    found: dict[tuple[str, ...], Holding] = {}
    with tqdm(total=store.count(task), desc="grading", unit="reply", delay=2, leave=False) as bar:
        for asked, told in store.everything(task):
            name, kind = asked.prompt.task, asked.prompt.kind
            one = found.setdefault((asked.model, asked.fingerprint, name, kind), Holding(asked.model, name, kind))
            one.count(asked, told)
            bar.update(len(told))
    return list(found.values())


def describe(store: Store, ledger: Ledger, task: str | None = None) -> str:
    """What the store holds and what its ledger says, as Markdown."""
    held = holdings(store, task)
    table = markdown(HEAD, [holding.cells() for holding in held]) if held else "no replies yet\n"
    lines = [
        f"ledger: {model}: {account.spent_usd:.4f} $ for {account.calls:,} calls"
        + (
            f", {account.in_doubt_usd:.4f} $ in doubt (calls cut off, counted at their bound)"
            * (account.in_doubt_usd > 0)
        )
        for model, account in ledger.accounts().items()
    ]
    return f"{store.database.path}\n\n{table}\n" + "\n".join(lines)
