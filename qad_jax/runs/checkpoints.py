"""Checkpoints: what is saved, what is kept, and restoring for training and for evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from data_builders.errors import UserError
from data_builders.home import expanded
from data_builders.patches import orbax_byte_counts, tensorstore_json
from qad_jax import configs
from qad_jax.models import localiser
from qad_jax.runs import placement, resumption
from qad_jax.runs.checkpoint_errors import explained, saving, understood
from qad_jax.runs.state import TrainState, abstract_variables, untrained

_SCORE = "auc"


def _score(metrics: Mapping[str, float]) -> float:
    return metrics[_SCORE]


def _manager(directory: Path, *, read_only: bool) -> ocp.CheckpointManager:
    kept = [
        checkpoint_managers.LatestN(1),
        checkpoint_managers.BestN(
            get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
        ),
    ]
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
            best_fn=_score,
            read_only=read_only,
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        ),
    )


def _steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints: one that is being written has a longer name."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def latest_step(workdir: Path) -> int | None:
    """The newest whole checkpoint of a run, None where there is none; writes nothing."""
    return max(_steps(workdir / "checkpoints"), default=None)


def _saving(folder: Path) -> contextlib.AbstractContextManager[None]:
    """As `saving`, for a training."""

    def then() -> str:
        latest = latest_step(folder.parent)
        safe = (
            "there is no whole one" if latest is None else f"the newest whole one is step {latest}"
        )
        return f"{safe}; mend that, and the same command continues from there"

    return saving(folder, then)


class Checkpoints:
    """The checkpoints of a run: the newest, and the best by mean validation AUC."""

    def __init__(self, workdir: Path, circumstances: Mapping[str, Any]) -> None:
        """Opens or makes `workdir/checkpoints`.

        Args:
          workdir: The run's folder.
          circumstances: See `resumption.circumstances`. The item `data` stores them, and they are
            compared with it when the run continues.

        Raises:
          UserError: Where the folder cannot be read.
        """
        self.directory = workdir / "checkpoints"
        self._circumstances = dict(circumstances)
        tensorstore_json.remember()
        orbax_byte_counts.leave_out()
        with explained(self.directory):
            self._manager = _manager(self.directory, read_only=False)

    @property
    def latest(self) -> int | None:
        """See `latest_step`."""
        return latest_step(self.directory.parent)

    def save(
        self,
        state: TrainState,
        config: ml_collections.ConfigDict,
        *,
        step: int,
        auc: float | None = None,
        pending: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """Saves in the background; the state may be donated right after.

        Args:
          state: What to save.
          config: The run's configuration, so that a checkpoint can be used alone.
          step: Steps taken, which is also the position in the stream of training batches.
          auc: Mean validation AUC of this step, where it was measured.
          pending: Metrics of the steps since the last log, whose mean is logged later.

        Raises:
          UserError: Where this save or the one before it fails, for instance on a full disk.
        """
        state = placement.fetch(state)
        average = {
            name: ocp.args.StandardSave(tree) for name, tree in _only_if(state.average).items()
        }
        with _saving(self.directory):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    batch_stats=ocp.args.StandardSave(state.batch_stats),
                    opt_state=ocp.args.StandardSave(state.opt_state),
                    data=ocp.args.JsonSave(
                        {**self._circumstances, "batches": step, "pending": list(pending)}
                    ),
                    config=ocp.args.JsonSave(configs.to_dict(config)),
                    **average,
                ),
                metrics=None if auc is None else {_SCORE: auc},
            )

    def restore(self, like: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """Restores the newest checkpoint onto this process's devices.

        Args:
          like: A state of the same shapes and types; its values are not read.

        Returns:
          The state, and the `pending` that it was saved with.

        Raises:
          UserError: Where the checkpoint cannot be read, is of another version or configuration, or
            of a run on other data.
        """
        step = self.latest
        if (self.directory / str(step) / "origin").exists():  # see `save_for_evaluation`
            raise UserError(
                f"--workdir: {self.directory.parent} holds converted weights, not a training; name "
                "another folder, and start from their file with config.model.pretrained"
            )
        like = placement.replicated_like(like)
        trees = {
            "params": like.params,
            "batch_stats": like.batch_stats,
            "opt_state": like.opt_state,
            **_only_if(average=like.average),
        }
        arrays = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
        with explained(self.directory / str(step), trees, ["data"]):
            restored = self._manager.restore(
                step, args=ocp.args.Composite(**arrays, data=ocp.args.JsonRestore())
            )
        with understood(self.directory / str(step), "item data"):
            resumption.check(restored.data, self._circumstances, self.directory.parent)
            pending = [dict(metrics) for metrics in restored.data.get("pending", [])]
        state = TrainState(
            step=placement.replicate(jnp.asarray(step, jnp.int32)),
            params=restored.params,
            batch_stats=restored.batch_stats,
            opt_state=restored.opt_state,
            average=restored.get("average"),
        )
        return state, pending

    def newest_whole(self) -> int | None:
        """Waits for the save in progress, then returns `latest`."""
        with _saving(self.directory):
            self._manager.wait_until_finished()
        return self.latest

    def close(self) -> None:
        """Waits for the save in progress.

        Raises:
          UserError: Where it fails.
        """
        with _saving(self.directory):
            self._manager.wait_until_finished()
            self._manager.close()


def _only_if(average: Any) -> dict[str, Any]:
    """The item of the averaged parameters, where a run has them."""
    return {} if average is None else {"average": average}


def save_for_evaluation(
    workdir: Path,
    variables: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    *,
    step: int = 0,
    **told: Mapping[str, Any],
) -> None:
    """Saves variables without a training.

    Args:
      workdir: The folder.
      variables: `{'params', 'batch_stats'}`, and a localiser where there is one.
      config: Names the model they are for.
      step: Of a training that they come from.
      **told: `origin`, where they come from, see `new_head`; and `data`, what they learned.
    """
    variables, config = untrained(variables, config)
    manager = _manager(workdir / "checkpoints", read_only=False)
    items: dict[str, Any] = {k: ocp.args.StandardSave(tree) for k, tree in variables.items()}
    jsons = {"config": configs.to_dict(config), "origin": {}, **told}
    items |= {name: ocp.args.JsonSave(value) for name, value in jsons.items()}
    manager.save(step, args=ocp.args.Composite(**items))
    manager.close()  # when all is written


def _folder(directory: str | Path) -> Path:
    """The folder of the checkpoints: that in a run's folder, or the one that is given."""
    folder = expanded(directory).absolute()
    inside = folder / "checkpoints"
    return inside if inside.is_dir() else folder


def restore_for_evaluation(
    directory: str | Path, step: int | None = None
) -> tuple[dict[str, Any], ml_collections.ConfigDict]:
    """Restores a trained model without the state of its optimiser, from any number of devices.

    Args:
      directory: The run's folder, or the `checkpoints` folder in it.
      step: The step of the checkpoint; None: the best by mean validation AUC, or the newest where
        there was no validation.

    Returns:
      `(variables, config)`: `{'params', 'batch_stats'}` replicated on this process's devices, for
      `qad_jax.models.create(config.model.name)`; and the configuration of the run. Where
      `config.ema_decay` is positive, `params` are the averaged ones, which validation measures. A
      run that trained a localiser has it as one more collection, which the model passes over.

    Raises:
      UserError: Where there is no such checkpoint, or it cannot be read.
    """
    variables, config, _ = restore_step(directory, step)
    return variables, config


def restore_step(
    directory: str | Path, step: int | None = None
) -> tuple[dict[str, Any], ml_collections.ConfigDict, int]:
    """As `restore_for_evaluation`, and also returns the step of the checkpoint."""
    folder = _folder(directory)
    if not folder.is_dir():
        raise UserError(
            f"{directory}: there are no checkpoints; train first, or name another folder"
        )
    steps = _steps(folder)
    if not steps:
        raise UserError(f"{folder}: holds no whole checkpoint; train first, or name another folder")
    step = best_step(directory) if step is None else step
    if step is None or step not in steps:
        held = ", ".join(map(str, steps))
        raise UserError(f"{folder}: there is no checkpoint of step {step}; there are {held}")
    with explained(folder / str(step), jsons=["config"]):
        manager = _manager(folder, read_only=True)
        saved = manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))
    with understood(folder / str(step), "configuration"):
        config = configs.whole(saved.config)
        # Converted weights may have a localiser whatever their configuration says.
        beside = (folder / str(step) / localiser.LOCALISER).is_dir()
        like = placement.replicated_like(abstract_variables(config, beside=beside))
    items = {name: name for name in like}  # the item of each part
    if config.ema_decay:
        items["params"] = "average"
    trees = {items[name]: tree for name, tree in like.items()}
    arrays = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
    with explained(folder / str(step), trees):
        restored = manager.restore(step, args=ocp.args.Composite(**arrays))
    manager.close()
    variables = {name: restored[item] for name, item in items.items()}
    apart = localiser.apart(variables["params"], variables["batch_stats"])
    return {**variables, **apart}, config, step


def best_step(directory: str | Path) -> int | None:
    """The step to evaluate: the best on validation, else the last; None where none is whole."""
    folder = _folder(directory)
    if not (steps := _steps(folder)):
        return None
    with explained(folder), contextlib.closing(_manager(folder, read_only=True)) as manager:
        best = manager.best_step()
    return steps[-1] if best is None else best


def datasets_of(directory: str | Path, step: int) -> tuple[str, ...]:
    """Full names of the datasets that a checkpoint was trained on; none where it does not say."""
    data = data_of(directory, step)
    with understood(_folder(directory) / str(step), "item data"):
        return resumption.names_of(data)


def data_of(directory: str | Path, step: int) -> dict[str, Any]:
    """What a checkpoint was trained on, see `resumption.data_of`; empty for converted weights."""
    return _json_of(directory, step, "data")


def new_head(directory: str | Path, step: int) -> int | None:
    """Of converted weights whose head was drawn anew: how many classes the file's own head had.

    Returns:
      None for a training, and where the head is the file's. The scores of a new head mean nothing.
    """
    classes = _json_of(directory, step, "origin").get("new_head_instead_of")
    with understood(_folder(directory) / str(step), "item origin"):
        return None if classes is None else int(classes)


def _json_of(directory: str | Path, step: int, item: str) -> dict[str, Any]:
    """An item of a checkpoint, empty where it has none of this name."""
    folder = _folder(directory)
    if not (folder / str(step) / item).is_dir():
        return {}
    with explained(folder / str(step), jsons=[item]):
        manager = _manager(folder, read_only=True)
        saved = manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))
        manager.close()
    with understood(folder / str(step), f"item {item}"):
        return dict(saved[item])
