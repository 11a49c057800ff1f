"""How one gets a dataset that people have to ask for, as far as it is published."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from data_builders.errors import UserError


@dataclasses.dataclass(frozen=True)
class Access:
    """What `--doctor` says where a dataset is not on disk.

    Attributes:
      page: The page of those who give it.
      form: How they are asked, and for what it may be used.
      size: How large it is, in words.
      scripts: What fetches or unpacks it.
      reported: What people report of its servers; not what this project has tried.
    """

    page: str
    form: str
    size: str
    scripts: str = "none: a link is sent, or shown"
    reported: str = "nothing that is known here"

    def __str__(self) -> str:
        fields = dataclasses.asdict(self).items()
        return "\n".join(["how to get it:", *(f"  {name}: {text}" for name, text in fields)])


@contextlib.contextmanager
def shown_on_error(access: Access | None) -> Iterator[None]:
    """Prints how a dataset is got, where what is done with its data ends with a UserError."""
    try:
        yield
    except UserError:
        if access:
            print(access)
        raise
