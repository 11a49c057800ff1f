"""The command, with a smooth activation in place of ReLU.

Where a ReLU turns, the last bit decides on a whole gradient: two runs that add the same numbers in
another order part there, and how early is chance.
"""

import runpy

import flax.linen as nn

if __name__ == "__main__":
    nn.relu = nn.silu
    runpy.run_module("qad_jax.main", run_name="__main__", alter_sys=True)
