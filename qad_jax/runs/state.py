"""The state of a training: what every step changes and a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import struct

from data_builders.errors import UserError
from qad_jax import configs, models
from qad_jax.models import localiser

# Pixels of a side that are enough for every model; which ones fail below follows no simple rule.
_ENOUGH = 32


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
        return localiser.apart(params, self.batch_stats)


def abstract_variables(
    config: ml_collections.ConfigDict, *, beside: bool = False
) -> dict[str, Any]:
    """Shapes and types of the variables that a training of a configuration has; computes none.

    Args:
      config: The configuration, with all fields.
      beside: Whether there is a localiser that the configuration does not promise.

    Returns:
      `{'params', 'batch_stats'}`, and the localiser that is beside them.
    """
    model = models.create(config.model.name)
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)

    def made(images: jax.Array) -> Any:
        variables = model.init(jax.random.key(0), images, train=False)
        if beside or config.localise.weight:
            variables = localiser.extended(model, variables, config.image_size, 0)
        return variables

    variables = jax.eval_shape(made, image)
    params, batch_stats = variables["params"], variables["batch_stats"]
    if beside:
        return localiser.apart(params, batch_stats)
    return {"params": params, "batch_stats": batch_stats}


def check_size(config: ml_collections.ConfigDict) -> None:
    """Checks that a model can have images of the size that a configuration gives.

    Args:
      config: The configuration.

    Raises:
      UserError: The images are too small, and would have no pixel left in the model.
    """
    if config.image_size >= _ENOUGH:
        return
    try:
        abstract_variables(config)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"config.image_size: is {config.image_size}, too small for {config.model.name}; set it "
            f"to {_ENOUGH} or more"
        ) from error


def untrained(
    variables: Mapping[str, Any], config: ml_collections.ConfigDict
) -> tuple[Mapping[str, Any], ml_collections.ConfigDict]:
    """What a checkpoint holds of variables that come without a training.

    A checkpoint is asked for all that its configuration promises. So the configuration promises no
    average of the parameters, and a localiser only where there is one. One that it does not promise
    is an item of its own.

    Args:
      variables: `{'params', 'batch_stats'}`, and a localiser where there is one.
      config: What goes with them; it is not changed.

    Returns:
      Variables like those of `abstract_variables`, and their configuration.
    """
    config = configs.from_dict(configs.to_dict(config))
    config.ema_decay = 0.0
    if localiser.LOCALISER not in variables:
        config.localise.weight = 0.0
    elif config.localise.weight:
        variables = localiser.joined(variables)
    return variables, config
