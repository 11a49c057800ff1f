"""What a training changes with every step, and what a checkpoint therefore holds."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
    """Everything a step changes."""

    step: jax.Array  # () int32
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None  # moving average of the parameters; None: there is none

    def variables(self) -> dict[str, Any]:
        """What is evaluated: the average of the parameters where there is one.

        The running statistics are those of training either way. They average over a hundred steps
        themselves, and those of the averaged weights would need passes of their own.
        """
        params = self.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.batch_stats}
