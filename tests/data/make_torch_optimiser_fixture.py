"""Writes torch_optimiser.npz: what torch's OneCycleLR and Adam do, step by step.

    pip install torch==2.13.0 numpy
    python tests/data/make_torch_optimiser_fixture.py

Keys:

    one_cycle/STEPS_PCT   float64 (STEPS,), the rate of each step, peak 2e-4, div_factor 25,
                          final_div_factor 1e4, cosine, one cycle of STEPS steps of which PCT rise
    adam/start            float32 (3, 2), the weights before
    adam/gradients        float32 (20, 3, 2), the gradients given
    adam/weights          float32 (20, 3, 2), the weights after each step: Adam with weight decay
                          0.1 under OneCycleLR of 20 steps, PCT 0.3, peak 0.05
"""

import pathlib
import warnings

import numpy as np
import torch

# The length of a run and the share that rises; PCT x STEPS below and above 1, whole and not.
CASES = [(1, 0.3), (2, 0.3), (3, 0.5), (10, 0.05), (20, 0.3), (100, 0.05), (600, 0.2), (1000, 0.99)]


def one_cycle(steps, pct, weights, peak):
    optimiser = torch.optim.Adam([weights], lr=peak, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        peak,
        total_steps=steps,
        pct_start=pct,
        anneal_strategy="cos",
        cycle_momentum=False,
        div_factor=25.0,
        final_div_factor=1e4,
    )
    return optimiser, schedule


def main():
    warnings.simplefilter("ignore")  # steps of a schedule without steps of its optimiser
    arrays = {}
    for steps, pct in CASES:
        _, schedule = one_cycle(steps, pct, torch.nn.Parameter(torch.zeros(1)), 2e-4)
        rates = [schedule.get_last_lr()[0]]
        for _ in range(steps - 1):
            schedule.step()
            rates.append(schedule.get_last_lr()[0])
        arrays[f"one_cycle/{steps}_{pct}"] = np.array(rates)
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 2)).astype(np.float32)
    gradients = rng.normal(size=(20, 3, 2)).astype(np.float32)
    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser, schedule = one_cycle(20, 0.3, weights, 0.05)
    after = []
    for gradient in gradients:
        weights.grad = torch.from_numpy(gradient)
        optimiser.step()
        schedule.step() if len(after) < 19 else None
        after.append(weights.detach().numpy().copy())
    arrays |= {"adam/start": start, "adam/gradients": gradients, "adam/weights": np.stack(after)}
    np.savez_compressed(pathlib.Path(__file__).parent / "torch_optimiser.npz", **arrays)


if __name__ == "__main__":
    main()
