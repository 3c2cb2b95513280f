"""Handles that remove hooks."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import MutableMapping
from typing import Any

_ids = itertools.count()


class RemovableHandle:
    """Removes a hook from its dictionary; also a context manager that removes it at the end."""

    def __init__(self, hooks: MutableMapping[int, Any], *, extra_dict: Any = None) -> None:
        self.id = next(_ids)
        try:
            self._hooks: Any = weakref.ref(hooks)
        except TypeError:                       # plain dicts know no weak references
            self._hooks = lambda: hooks
        extras = extra_dict if isinstance(extra_dict, list) else [extra_dict] if extra_dict is not None else []
        self._extras = extras

    def remove(self) -> None:
        """Remove the hook; further calls do nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)
        for extra in self._extras:
            extra.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()
