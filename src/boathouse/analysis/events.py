"""The events that a user's code sees: columns of one chunk, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import awkward as ak
import numpy as np
from numpy.typing import NDArray


class Events:
    """Columns of some events. Choosing events copies nothing until a column is asked for.

    ``events["nMuon"]`` is a column with one value an event; ``events[mask]`` are the events chosen by a boolean mask;
    ``events.nth("Muon_pt", 0)`` is the first value of a jagged column in each event. :meth:`jagged` and
    :meth:`awkward` give whole jagged columns.
    """

    def __init__(self, columns: Mapping[str, Any], rows: NDArray[np.intp] | None = None, count: int = 0) -> None:
        """Wrap columns.

        Args:
            columns: Awkward or NumPy arrays of equal length by name.
            rows: the chosen events; all of them by default.
            count: number of all events.
        """
        self._columns = columns
        self._rows = rows
        self._count = count

    def __len__(self) -> int:
        return self._count if self._rows is None else len(self._rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._columns)

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: NDArray[np.bool_]) -> Events: ...
    def __getitem__(self, key: str | NDArray[np.bool_]) -> NDArray[Any] | Events:
        """A column with one value an event, or the events chosen by a mask.

        Raises:
            KeyError: the analysis does not name this column.
            ValueError: the column is jagged, or the mask is of another length.
        """
        if isinstance(key, str):
            column = self._column(key)
            if _is_jagged(column):
                msg = f"column {key} has several values an event: use nth(), jagged() or awkward()"
                raise ValueError(msg)
            values = np.asarray(column)
            return values if self._rows is None else values[self._rows]
        mask = np.asarray(key)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            msg = f"expected a boolean mask of {len(self)} events, got {mask.dtype} of shape {mask.shape}"
            raise ValueError(msg)
        rows = np.flatnonzero(mask)
        return Events(self._columns, rows if self._rows is None else self._rows[rows], self._count)

    def nth(self, name: str, n: int) -> NDArray[Any]:
        """The n-th value (from 0) of a jagged column in each event.

        Raises:
            KeyError: the analysis does not name this column.
            ValueError: some event has no n-th value.
        """
        starts, stops, values = self._bounds(name)
        if np.any(stops - starts <= n):
            msg = f"some events have fewer than {n + 1} values of {name}: choose events first"
            raise ValueError(msg)
        return values[starts + n]

    def jagged(self, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """A jagged column as offsets (one more than events) and values: event i has values[offsets[i]:offsets[i+1]].

        Raises:
            KeyError: the analysis does not name this column.
        """
        starts, stops, values = self._bounds(name)
        offsets = np.concatenate([[0], np.cumsum(stops - starts)])
        if self._rows is None:
            return offsets, values[starts[0] : stops[-1]] if len(starts) else values[:0]
        return offsets, values[np.repeat(starts - offsets[:-1], np.diff(offsets)) + np.arange(offsets[-1])]

    def awkward(self) -> ak.Array:
        """All columns as one Awkward record array."""
        whole = ak.Array(dict(self._columns))
        return whole if self._rows is None else whole[self._rows]

    def _column(self, name: str) -> Any:
        try:
            return self._columns[name]
        except KeyError:
            msg = f"{name}: the analysis reads {', '.join(self._columns)}; add it to columns"
            raise KeyError(msg) from None

    def _bounds(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        column = self._column(name)
        if not _is_jagged(column):
            msg = f'column {name} has one value an event: use events["{name}"]'
            raise ValueError(msg)
        layout = column.layout.to_ListOffsetArray64(start_at_zero=False)
        if not isinstance(layout.content, ak.contents.NumpyArray):
            msg = f"column {name} is jagged twice: use awkward()"
            raise ValueError(msg)  # noqa: TRY004 - the name is wrong for this method, not the type of an argument
        offsets, values = np.asarray(layout.offsets), layout.content.data
        starts, stops = offsets[:-1], offsets[1:]
        return (starts, stops, values) if self._rows is None else (starts[self._rows], stops[self._rows], values)


def _is_jagged(column: Any) -> bool:
    return isinstance(column, ak.Array) and column.ndim > 1
