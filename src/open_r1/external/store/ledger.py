"""The ledger: an upper bound is reserved before a call and settled after it, so that no concurrency passes the budget.

It lies in the store's file, where one transaction checks and reserves for all processes at once. An open reservation is
also a claim: nobody else asks the same question meanwhile. Amounts are whole nano-dollars, so that sums are exact.

    spent     what models said that calls cost, or the user by their bill
    in doubt  bounds of requests that were sent and whose cost nobody knows: cut off, unreadable, without token counts,
              or of a process that died. They may have been billed, so they count until `settle_bill`
    open      bounds of calls under way

The cap holds spent + in doubt + open at or below the budget. It is the file's, over all runs that ever used it.
"""

import math
from typing import Literal, NamedTuple

from open_r1.external.store.database import Database
from open_r1.external.store.owners import Owner, is_alive, process_of
from open_r1.schema import UserError
from open_r1.utils.names import unknown_name

NANO = 10**9

Refusal = Literal["claimed", "wait", "over"]


class Account(NamedTuple):
    """What one model has cost so far, in dollars."""

    spent_usd: float  # what is known
    in_doubt_usd: float  # bounds of what is not
    calls: int  # settled


class Ledger:
    """The money side of one store file, for one process."""

    def __init__(self, database: Database, budget_usd: float | None = None):
        """Count the calls of dead processes as spent; `budget_usd` None sets no cap.

        Raises:
            UserError: a budget that is no amount.
        """
        if budget_usd is not None and not 0 <= budget_usd < math.inf:
            raise UserError(f"external_budget_usd is {budget_usd}; it must be 0 or more dollars; leave out for no cap")
        self._database = database
        self.budget = None if budget_usd is None else round(budget_usd * NANO)
        self._owner: Owner | None = None  # from the first reservation on
        if not database.read_only:
            self._doubt_dead()

    def reserve(self, key: bytes, model: str, usd: float) -> int | Refusal:
        """Reserve `usd` for a call about `key` and return the call's number, to be settled; or say why not.

        Returns:
            The number of the call, or "claimed": a live process is asking this already; "wait": open calls have
            reserved what this one needs; "over": it does not fit into what is left of the budget.
        """
        nanos = _nanos(usd)
        with self._database.write():
            if claims := self._database.rows("select owner from open_calls where key = ?", (key,)):
                if self._alive(claims[0][0]):
                    return "claimed"
                self._doubt_dead()
            if self.budget is not None and nanos:
                ((spent,),) = self._database.rows("select ifnull(sum(nanos + in_doubt), 0) from spent")
                ((open_,),) = self._database.rows("select ifnull(sum(nanos), 0) from open_calls")
                if spent + nanos > self.budget:
                    return "over"
                if spent + open_ + nanos > self.budget:
                    self._doubt_dead()
                    return "wait"
            if self._owner is None:
                self._owner = Owner(self._database.path)
            insert = "insert into open_calls (key, model, nanos, owner) values (?, ?, ?, ?) returning id"
            ((call,),) = self._database.rows(insert, (key, model, nanos, self._owner.name))
            return call

    def settle(self, call: int, model: str, usd: float, in_doubt_usd: float = 0.0) -> None:
        """Close a call that cost `usd`, and perhaps `in_doubt_usd` more.

        A cost above what was reserved is counted as it is.
        """
        with self._database.write():
            self.release(call)
            self._count(model, nanos=_nanos(usd), in_doubt=_nanos(in_doubt_usd), calls=1)

    def settle_bill(self, model: str, usd: float) -> Account:
        """Put the provider's bill in the place of what is in doubt: `usd` is what all calls of the model really cost.

        Returns:
            The account as it was before.

        Raises:
            UserError: a model without an account, an amount below what its calls are known to have cost, or calls of
                the model that are under way.
        """
        with self._database.write():
            self._doubt_dead()
            accounts = self.accounts()
            if model not in accounts:
                raise unknown_name("model", model, accounts, where="this ledger")
            before = accounts[model]
            if not before.spent_usd <= usd < math.inf:
                raise UserError(
                    f"a bill of {usd} $ for '{model}' is below the {before.spent_usd:.4f} $ that its calls are known to"
                    " have cost; a bill counts all of them; wait until it is complete, or add what is missing"
                )
            if self._database.rows("select 1 from open_calls where model = ?", (model,)):
                raise UserError(
                    f"calls of '{model}' are under way, and their cost is open; settle when they have ended"
                )
            self._database.rows("update spent set nanos = ?, in_doubt = 0 where model = ?", (_nanos(usd), model))
            return before

    def release(self, call: int) -> None:
        """Close a call that was never made."""
        with self._database.write():
            self._database.rows("delete from open_calls where id = ?", (call,))

    def accounts(self) -> dict[str, Account]:
        """Every model's account, over all runs that used this file."""
        rows = self._database.rows("select model, nanos, in_doubt, calls from spent order by model")
        return {model: Account(nanos / NANO, doubt / NANO, calls) for model, nanos, doubt, calls in rows}

    @property
    def counted_usd(self) -> float:
        """What counts against the budget for good: spent and in doubt, without open calls."""
        return sum(account.spent_usd + account.in_doubt_usd for account in self.accounts().values())

    def holder(self, key: bytes) -> str:
        """The number of the process that asks this question; "" where none does."""
        claims = self._database.rows("select owner from open_calls where key = ?", (key,))
        return process_of(claims[0][0]) if claims else ""

    def close(self) -> None:
        """Count as in doubt what this process has asked and will not see answered."""
        if self._owner is not None:
            with self._database.write():
                self._doubt([self._owner.name])
            self._owner.release()
            self._owner = None

    def _doubt_dead(self) -> None:
        """Count the open calls of processes that are gone as in doubt."""
        with self._database.write():
            owners = [owner for (owner,) in self._database.rows("select distinct owner from open_calls")]
            self._doubt([owner for owner in owners if not self._alive(owner)])

    def _alive(self, owner: str) -> bool:
        return is_alive(self._database.path, owner)

    def _doubt(self, owners: list[str]) -> None:
        for owner in owners:
            calls = "delete from open_calls where owner = ? returning model, nanos"
            for model, nanos in self._database.rows(calls, (owner,)):
                self._count(model, in_doubt=nanos)

    def _count(self, model: str, nanos: int = 0, in_doubt: int = 0, calls: int = 0) -> None:
        self._database.rows(
            "insert into spent (model, nanos, in_doubt, calls) values (?, ?, ?, ?) on conflict (model) do update set"
            " nanos = nanos + excluded.nanos, in_doubt = in_doubt + excluded.in_doubt, calls = calls + excluded.calls",
            (model, nanos, in_doubt, calls),
        )


def _nanos(usd: float) -> int:
    return math.ceil(round(usd * NANO, 3))  # up, but .07 * 1e9 is 70,000,000.00000001 and means seven cents
