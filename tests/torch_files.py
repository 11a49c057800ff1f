"""Writes what torch.save writes, without torch: any names in the pickle, any strides."""

import io
import pickle
import zipfile
from typing import ClassVar

import ml_dtypes
import numpy as np

_STORAGES = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
}


class Global:
    """A name in a pickle, whatever is behind it and whether there is anything."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """The call of something, and what is done to its result."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class Pickler(pickle._Pickler):
    """Stands for torch's: tensors are arrays here, and their numbers go to `storages`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file):
        super().__init__(file, 2)
        self.storages = {}

    def save_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_call(self, value):
        self.save(value.function)
        self.save(value.arguments)
        self.write(pickle.REDUCE)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    def save_array(self, value):
        key = str(len(self.storages))
        order = np.argsort([-stride for stride in value.strides], kind="stable")
        flat = np.ascontiguousarray(value.transpose(order)).reshape(-1)  # in the order of memory
        self.storages[key] = flat
        strides = tuple(stride // value.itemsize for stride in value.strides)
        rebuild = Global("torch._utils", "_rebuild_tensor_v2")
        kind = Global("torch", _STORAGES[value.dtype])
        hooks = Call(Global("collections", "OrderedDict"))
        storage = Storage(kind, key, flat.size)
        self.save(Call(rebuild, storage, 0, value.shape, strides, False, hooks))

    def save_storage(self, value):
        self.save(("storage", value.kind, value.key, "cpu", value.count))
        self.write(pickle.BINPERSID)

    dispatch[Global] = save_name
    dispatch[Call] = save_call
    dispatch[np.ndarray] = save_array


class Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


Pickler.dispatch[Storage] = Pickler.save_storage


def zipped(content):
    """The bytes of `torch.save(content)`."""
    text = io.BytesIO()
    pickler = Pickler(text)
    pickler.dump(content)
    return zipped_pickle(text.getvalue(), pickler.storages)


def zipped_pickle(program, storages=()):
    """An archive around a pickle and its storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for key, array in dict(storages).items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return file.getvalue()


def legacy(content):
    """The same as torch wrote it before 1.6."""
    text = io.BytesIO()
    pickler = Pickler(text)
    pickler.dump(content)
    return legacy_pickle(text.getvalue(), pickler.storages)


def legacy_pickle(program, storages=()):
    """The sequence of pickles around one, with its storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    storages = dict(storages)
    parts = [*(pickle.dumps(part, 2) for part in head), program, pickle.dumps(list(storages), 2)]
    for array in storages.values():
        parts += [np.int64(array.size).tobytes(), array.tobytes()]
    return b"".join(parts)
