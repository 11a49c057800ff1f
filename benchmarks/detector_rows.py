"""What the ablation of the detector compares: its rows, their configurations, and their tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from qad_jax import configs
from qad_jax.runs import configuration

SEEDS = (0, 1, 2)
START_STEPS, STEPS, TUPLES, SIZE, LARGER, VARIANTS = 1200, 300, 16, 128, 192, 4
LEFT_OUT = ("colour", "eyes", "swap")
SEEN = ("raw", "c23", "c40")
TESTED = ("raw", "c23", "c30", "c40", "c45", "messenger")
STRANGER = "synthetic_faces/sweep"
STRANGERS = ("raw", "c23", "c30", "c40", "c45")
BASE = "all qualities"
START = "raw only"  # how the weights are trained that all runs begin with
TESTS = {"self_blended": TESTED, STRANGER: STRANGERS}
#: Parts of the test: which fakes of which dataset. The last is another dataset.
PARTS = ("seen families", "families left out", "rendered faces")

Change = Callable[[ml_collections.ConfigDict], None]


def _set(**fields: Any) -> Change:
    def change(config: ml_collections.ConfigDict) -> None:
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})

    return change


# The original's perturbation begins after 3 of 32 epochs; here after 19 steps, see docs/method.md.
_WARMUP = 3 / 32


# As many images from one quality as from three.
_RAW = _set(qualities=("raw",), batch_size=len(SEEN) * TUPLES)
ROWS: dict[str, Change] = {
    START: _RAW,
    BASE: _set(),
    "+ HSIC debiased_cka 0.1": _set(hsic__weight=0.1),
    "+ HSIC debiased_cka 0.4": _set(hsic__weight=0.4),
    "+ HSIC nhsic 0.002": _set(hsic__estimator="nhsic", hsic__weight=0.002),
    "+ HSIC nhsic 0.01": _set(hsic__estimator="nhsic", hsic__weight=0.01),
    "+ AWP 0.002": _set(awp__gamma=0.002),
    "+ AWP 0.006": _set(awp__gamma=0.006),
    "+ HSIC debiased_cka 0.1 + AWP 0.002": _set(hsic__weight=0.1, awp__gamma=0.002),
    "+ pairs": _set(sampling="pairs"),
    "+ averaged weights": _set(ema_decay=0.99),
    f"+ {LARGER} px": _set(image_size=LARGER),
    "- degradations": _set(),  # of the training data
    "+ twins": _set(sampling="twins"),
    "+ twins, localised": _set(sampling="twins", localise__weight=1.0),
}


def config_of(
    row: str, seed: int, data_dir: Path, epoch_steps: int, start: Path | None
) -> ml_collections.ConfigDict:
    """The configuration of a run: the detector's, smaller and shorter.

    Args:
      row: One of `ROWS`.
      seed: Of the order of the images and their augmentation.
      data_dir: Where the datasets are.
      epoch_steps: Steps that see each tuple once.
      start: The weights that it begins with; None for ImageNet's, and `START_STEPS`.
    """
    config = configs.load("detector")
    if start is not None:
        config.model.pretrained = str(start)
    config.dataset.data_dir = str(data_dir)
    config.dataset.exclude_methods = LEFT_OUT
    config.qualities = SEEN
    config.image_size = SIZE
    config.batch_size = TUPLES
    config.num_steps = START_STEPS if start is None else STEPS
    config.sampling = "natural"
    config.qualities_at_once = 0
    config.ema_decay = config.localise.weight = 0.0
    config.hsic.weight = config.awp.gamma = 0.0
    config.awp.warmup_epochs = _WARMUP * STEPS / epoch_steps
    config.seed = seed
    config.log_every_steps = 50
    ROWS[row](config)
    return configuration.check(config)
