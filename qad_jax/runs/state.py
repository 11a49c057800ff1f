"""The state of a training: what every step changes and a checkpoint holds."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: Steps taken, () int32.
      params: Parameters of the model.
      batch_stats: Running statistics of the model.
      opt_state: State of the optimiser.
      average: Moving average of the parameters; None where a run has none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    def variables(self) -> dict[str, Any]:
        """The variables to evaluate, with the average of the parameters where there is one.

        The running statistics are those of training in either case. They average over a hundred
        steps themselves, and those of the averaged weights would need further passes.
        """
        params = self.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.batch_stats}
