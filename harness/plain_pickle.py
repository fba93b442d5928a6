"""A pickle read as data: the instructions of plain values, every name answered by a stand-in.

A pickle is a program, and files may come from anywhere. Nothing that a file names is imported here,
and nothing is called but the stand-ins of whoever reads.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

_INSTRUCTIONS = """
    PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE
    BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING
    BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPERSID
"""
_KEYS = (str, bytes, int, float, bool, type(None))


class StandIn:
    """Takes the place of something that a file names, and takes its arguments as they come."""

    def __init__(self, *_: object) -> None:
        """Ignore what it is built from."""

    def __setstate__(self, state: Any) -> None:
        """Ignore what a file says of its inside."""


# The C implementation allocates whatever a file asks for ("memo 4294967295") before it looks at
# anything else, and its instructions cannot be limited. The Python one costs 0.1 s more a file.
class PlainUnpickler(pickle._Unpickler):
    """Reads plain values. A reader says in `find_class` which stand-in answers which name."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
    }

    def load_reduce(self) -> None:
        """Call a stand-in; whatever else a file wants to call is refused."""
        arguments = self.stack.pop()
        called = self.stack[-1]
        if not (isinstance(called, type) and issubclass(called, StandIn)):
            raise pickle.UnpicklingError(f"it calls a {type(called).__name__}")
        self.stack[-1] = called(*arguments)

    def load_build(self) -> None:
        """Hand a stand-in its state; nothing else has attributes to set."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StandIn):
            raise pickle.UnpicklingError(f"it changes a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        """Take one entry of a dictionary."""
        check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        """Take all entries since the mark."""
        check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def check_keys(keys: Any) -> None:
    """Refuse keys that are no plain values.

    A tuple that holds itself twice, sixty deep, is a short file and would be hashed for years.

    Raises:
        pickle.UnpicklingError: one of them is something else.
    """
    for key in keys:
        if type(key) not in _KEYS:
            raise pickle.UnpicklingError(f"the key of a dictionary is a {type(key).__name__}")
