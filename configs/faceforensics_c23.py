"""The field's first protocol: train on FaceForensics++ at c23 alone, then test on everything.

    qad-jax train --config faceforensics_c23 --workdir runs/ff --config.dataset.data_dir=OUT
    qad-jax matrix runs/ff --datasets face_forensics/all@OUT celeb_df_v2@OUT --out matrix

The method of this project trains at several qualities, with the same command and
`--config.qualities=raw,c23,c40 --config.hsic.weight=0.1`.
"""

import ml_collections

from qad_jax import configs


def get_config() -> ml_collections.ConfigDict:
    """ResNet-50 on the originals and all methods at c23, as many real as fake in each batch."""
    config = configs.load("common")
    config.dataset.name = "face_forensics/all"
    config.qualities = ("c23",)
    config.hsic.weight = 0.0  # one quality has no other to depend on
    config.sampling = "balanced"  # there are five fakes of each original
    return config
