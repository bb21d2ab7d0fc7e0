"""Histories to vectors in serving: the exported graph of a sequential source, without torch."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.errors import ArtifactError

CELLS_AT_ONCE = 4_000_000
SHORTEST = 8
GAPS = 32
"""Codes of the time between two events: 0 where it is not known, then by the power of two of its seconds."""
INPUTS = ("events", "actions", "gaps", "lengths")


def gap_codes(offsets: np.ndarray, times: np.ndarray) -> np.ndarray:
    """int64[m] codes of the time from the event before (µs), 0 for the first of each row."""
    seconds = np.diff(times, prepend=times[:1]) / 1e6
    codes = 1 + np.log2(np.clip(seconds, 0, None) + 1).astype(np.int64)
    codes[offsets[:-1][np.diff(offsets) > 0]] = 0
    return np.minimum(codes, GAPS - 1)


def action_flags(bits: np.ndarray, actions: int) -> np.ndarray:
    """float32[m, actions] from uint32[m]: 1 where the bit is set."""
    return (bits[:, None] >> np.arange(actions, dtype=np.uint32) & 1).astype(np.float32)


class SequenceEncoder:
    """Embeddings of the items of histories in, float32[B, D] vectors out.

    arrays: "items" float32[n, D], "hidden_item" float32[D] which stands for the event to be found (empty where the
    network needs none), "graph" the bytes of the ONNX file. meta: "actions", their number.
    """

    def __init__(self, arrays: dict[str, np.ndarray], meta: dict, history: int):
        self._items, self._hidden, self._graph = arrays["items"], arrays["hidden_item"], arrays["graph"]
        self._history = history

    @cached_property
    def _session(self):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        try:
            session = onnxruntime.InferenceSession(self._graph.tobytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises one class per status of its C++ core
            reason = str(error).splitlines()[0][:120]
            raise ArtifactError(f"the graph of a sequential source cannot be loaded: {reason}", "train again") from None
        return session, {i.name for i in session.get_inputs()}

    def open(self) -> None:
        """Make the graph ready, where anything was learned; raises ArtifactError where it is damaged."""
        if len(self._graph):
            self._session  # noqa: B018

    def __call__(self, histories: Ragged, actions: np.ndarray, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors and bool[B], False (and a vector of 0) where the history is empty.

        histories: known items, oldest first; actions float32[m, A] and gaps int64[m] belong to its values.
        """
        out = np.zeros((len(histories), self._items.shape[1]), np.float32)
        count = np.minimum(histories.lengths, self._history)
        start = histories.offsets[1:] - count
        extra = int(len(self._hidden) > 0)
        # the width of a row depends on its own length alone, so that nobody's vector depends on who else is asked for
        longest = self._history + extra
        widths = np.minimum(SHORTEST << np.arange(32), longest)
        width = widths[np.searchsorted(widths[: int(np.argmax(widths == longest)) + 1], count + extra)]
        for w in np.unique(width[count > 0]):
            rows = np.flatnonzero((width == w) & (count > 0))
            size = max(CELLS_AT_ONCE // (w * max(self._items.shape[1], w)), 2)
            for at in range(0, len(rows), size):
                part = rows[at : at + size]
                out[part] = self._encode(histories.values, start[part], count[part], int(w), actions, gaps)
        return out, count > 0

    def _encode(self, items, start, count, width: int, actions, gaps) -> np.ndarray:
        # one row alone would go through kernels of its own, which add up in another order
        batch = max(len(start), 2)
        places, at = expand(start, count, np.arange(len(items)))
        column = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        events = np.zeros((batch, width, self._items.shape[1]), np.float32)
        events[places, column] = self._items[items[at]]
        lengths = np.ones(batch, np.int64)
        lengths[: len(start)] = count
        if len(self._hidden):
            events[np.arange(len(start)), count] = self._hidden
            lengths[: len(start)] += 1
        flags = np.zeros((batch, width, actions.shape[1]), np.float32)
        flags[places, column] = actions[at]
        codes = np.zeros((batch, width), np.int64)
        codes[places, column] = np.where(column > 0, gaps[at], 0)
        session, wanted = self._session
        given = dict(zip(INPUTS, (events, flags, codes, lengths), strict=True))
        return session.run(None, {name: a for name, a in given.items() if name in wanted})[0][: len(start)]
