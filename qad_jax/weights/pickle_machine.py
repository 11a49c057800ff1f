"""Runs the small programs that pickles are, and nothing that they name.

A pickle is a program for a machine with a stack: it pushes values, puts them into containers, and
calls what it names. Python's own machine calls what can be imported; and a few bytes of a pickle
can have it take any amount of memory or time. This one gets what stands for each name from its
caller, knows plain containers, and counts its steps.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

#: Steps that a pickle may take: seconds, and some hundred bytes each. The largest checkpoints of
#: these models, with the state of an optimiser, take 100 000.
MOST_STEPS = 2_000_000
# Steps that a dictionary's key costs which is not a plain one. Whoever writes the file can choose
# such keys so that each is compared with all that are there.
_ODD_KEY = 1000
_DEEPEST_KEY = 20
_MOST_BITS = 4096  # of an integer: arithmetic with larger ones takes long

# Steps that push a value of their own, and those that push what is written behind them.
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    "BYTEARRAY8",
}


class DamagedError(Exception):
    """The pickle is not as it should be."""


class TooLongError(DamagedError):
    """The pickle takes more steps than it may."""


class RefusedError(Exception):
    """What is wanted depends on something that is not known, or code is named; says the name."""


class Inert:
    """Stands for a class or function that is not known here, or for what it makes.

    Attributes:
      names: What it stands for.
    """

    __slots__ = ("names",)

    def __init__(self, names: str) -> None:
        self.names = names


# Keys whose hashes whoever writes the file cannot make equal; integers only up to 64 bits.
_PLAIN = (str, bytes, int, float, type(None), Inert)


def named(value: Any) -> str | None:
    """What an inert object stands for, None for anything else."""
    return value.names if isinstance(value, Inert) else None


def shown(module: str, name: str) -> str:
    """A name that fits into a message, whatever is in it."""
    text = ascii(f"{module[:100]}.{name[:100]}")[1:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."


class Function:
    """What a pickle gets for the name of a function; it can be called, and not changed."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Stateful:
    """What a `Function` makes and a later step of the pickle completes."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Takes what Python's own machine gives to `__setstate__`.

        Raises:
          DamagedError: It is not as it should be.
        """
        raise NotImplementedError


class Dictionary(dict[Any, Any]):
    """An OrderedDict."""

    __slots__ = ()


class Machine:
    """Runs one pickle."""

    def __init__(self, find: Callable[[Any, Any], Any], persistent: Callable[[Any], Any]) -> None:
        """Makes a machine.

        Args:
          find: Gives what stands for a module and a name: an `Inert`, a `Function`, or a value.
          persistent: Gives what the pickle keeps elsewhere, by its description.
        """
        self._find = find
        self._persistent = persistent
        self._left = MOST_STEPS
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Returns what the pickle makes, and leaves the file behind it.

        Raises:
          DamagedError: Where the pickle does what plain containers do not need.
          TooLongError: Where it takes more than `MOST_STEPS`.
          Exception: Any other, for bytes that are no pickle.
        """
        for opcode, argument, _ in pickletools.genops(file):
            self._spend(1)
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooLongError

    def _step(self, name: str, argument: Any) -> None:
        """Takes one step."""
        stack = self._stack
        match name:
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._memo[argument])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "TUPLE" | "LIST":
                items = self._above_mark()
                self._stack.append(tuple(items) if name == "TUPLE" else items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                first = len(stack) - int(name[-1])
                if first < 0:
                    raise DamagedError
                stack[first:] = [tuple(stack[first:])]
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(set())
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                if name == "NEWOBJ_EX":
                    stack.pop()  # arguments by name, which only inert objects take
                arguments = stack.pop()
                stack.append(self.call(stack.pop(), arguments))
            case "OBJ":
                function, *parts = self._above_mark()
                self._stack.append(self.call(function, tuple(parts)))
            case "GLOBAL":
                stack.append(self._find(*argument.split(" ", 1)))
            case "INST":
                parts = self._above_mark()
                function = self._find(*argument.split(" ", 1))
                self._stack.append(self.call(function, tuple(parts)))
            case "STACK_GLOBAL":
                attribute = stack.pop()
                stack.append(self._find(stack.pop(), attribute))
            case "BUILD":
                state = stack.pop()  # attributes: torch hangs some on a state dict
                if isinstance(stack[-1], Stateful):
                    stack[-1].build(state)
                elif not isinstance(stack[-1], Inert | Dictionary):
                    raise DamagedError
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._fill(dict, stack[-1], [key, value])
            case "APPEND":
                item = stack.pop()
                self._fill(list, stack[-1], [item])
            case "SETITEMS" | "APPENDS" | "ADDITEMS":
                kind = {"SETITEMS": dict, "APPENDS": list, "ADDITEMS": set}[name]
                items = self._above_mark()
                self._fill(kind, self._stack[-1], items)
            case "DICT" | "FROZENSET":
                made: Any = {} if name == "DICT" else set()
                self._fill(type(made), made, self._above_mark())
                self._stack.append(made if name == "DICT" else frozenset(made))
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self._above_mark()
            case "DUP":
                stack.append(stack[-1])
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _LITERALS:
                if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                    raise DamagedError
                stack.append(argument)
            case _ if name not in ("PROTO", "FRAME"):  # an extension, or a buffer beside the pickle
                raise DamagedError

    def _above_mark(self) -> list[Any]:
        """Takes away what lies above the last mark."""
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _fill(self, kind: type, target: Any, items: list[Any]) -> None:
        if isinstance(target, dict) and kind is dict:
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[self._key(key)] = value
        elif isinstance(target, set) and kind is set:
            target.update(map(self._key, items))
        elif isinstance(target, list) and kind is list:
            target.extend(items)
        elif not isinstance(target, Inert):
            raise DamagedError

    def _key(self, key: Any) -> Any:
        """Lets a key of a dictionary or set pass whose hash is quickly computed."""
        if not isinstance(key, _PLAIN) or (isinstance(key, int) and key.bit_length() > 64):
            self._spend(_ODD_KEY)
            self._weigh(key, 0)
        return key

    def _weigh(self, part: Any, depth: int) -> None:
        """Spends a step for each part: a tuple may hold the same tuple twice, and so on."""
        self._spend(1)
        if isinstance(part, tuple | frozenset) and depth < _DEEPEST_KEY:
            for inner in part:
                self._weigh(inner, depth + 1)
        elif not isinstance(part, _PLAIN):
            raise DamagedError

    def call(self, function: Any, arguments: Any) -> Any:
        """Calls a `Function`, or an `Inert`, which gives another one."""
        if not isinstance(arguments, tuple):
            raise DamagedError
        self._spend(len(arguments))
        if isinstance(function, Inert):
            return Inert(function.names)
        if not isinstance(function, Function):
            raise DamagedError
        return function.call(*arguments)

    def tuple(self, items: Any = ()) -> tuple[Any, ...]:
        """Copies a list or tuple."""
        if not isinstance(items, list | tuple):
            raise DamagedError
        self._spend(len(items))
        return tuple(items)

    def dictionary(self, items: Any = ()) -> Dictionary:
        """Copies a dictionary, or pairs of keys and values."""
        if not isinstance(items, list | tuple | dict):
            raise DamagedError
        self._spend(len(items))
        made = Dictionary()
        for key, value in items.items() if isinstance(items, dict) else items:
            made[self._key(key)] = value
        return made
