"""A barrier with a deadline that names the processes that are missing.

The first collective after sampling and asking is where a process that hangs holds up all others; the backend's own
time-out says only that something did not arrive.
"""

import re
import socket
from datetime import timedelta
from typing import cast

import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import gather_object


class Barrier:
    """Made on every process at the same place, like every group of torch.distributed.

    Args:
        deadline_s: how long to wait for the last one, in seconds (the recipe's `ddp_timeout`).
    """

    def __init__(self, deadline_s: float):
        state = PartialState()
        self.deadline = timedelta(seconds=deadline_s)
        self.names = gather_object([f"process {state.process_index} on {socket.gethostname()}"])
        # Gloo beside NCCL: only gloo can say who is missing.
        self.group = dist.new_group(backend="gloo", timeout=self.deadline) if state.num_processes > 1 else None

    def wait(self, what: str) -> None:
        """Return when every process has called this; raises RuntimeError that names `what` and who is missing."""
        if self.group is None:
            return
        try:
            dist.monitored_barrier(cast(dist.ProcessGroup, self.group), self.deadline, wait_all_ranks=True)
        except RuntimeError as error:
            # Process 0 knows who is missing; the others learn that process 0 has given up.
            found = re.search(r"Ranks? ([\d, ]+) failed to pass", str(error))
            missing = [self.names[int(rank)] for rank in re.findall(r"\d+", found[1])] if found else ["another process"]
            seconds = self.deadline.total_seconds()
            raise RuntimeError(f"{what}: waited up to {seconds:g} s for {', '.join(missing)}") from error
