"""The field's second protocol: leave one method of FaceForensics++ out, and test on it.

qad-jax train --config leave_one_out:FaceSwap --workdir runs/without_face_swap
qad-jax matrix runs/without_* --datasets face_forensics/all@OUT --out matrix

`leave_one_out:FaceSwap,FaceShifter` leaves out both, for results beside papers that have no
FaceShifter.
"""

import ml_collections

from data_builders.errors import UserError, nearest
from data_builders.face_forensics.builder import METHODS
from qad_jax import configs


def get_config(methods: str = "") -> ml_collections.ConfigDict:
    """As `faceforensics_c23`, without the fakes of a method in training and validation.

    Args:
      methods: Name of the method, such as 'FaceSwap'; or of several, separated by commas.
    """
    if not methods:
        raise UserError("--config: name the method to leave out: leave_one_out:FaceSwap")
    known = METHODS.values()
    chosen = tuple(methods.split(","))
    for method in chosen:
        if method not in known:
            raise UserError(f"--config: leave_one_out:{method}: {nearest(method, known)}")
    config = configs.load("faceforensics_c23")
    config.dataset.exclude_methods = chosen
    return config
