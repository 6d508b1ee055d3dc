"""Keys and values that decoding has already computed, so that no step computes them twice.

The decoding loop owns the cache; the model's modules hold no state. See
`Decoder.start_cache`.
"""

from dataclasses import dataclass

from torch import Tensor


class KeyValueCache:
    """Keys and values of one attention module, `[batch, heads, length, d_head]` each.

    Room for `capacity` positions is set aside once, so appending copies only what is
    new.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, capacity: int | None = None
    ) -> None:
        """Start with `keys` and `values`, leaving room for `capacity` positions in all."""
        batch, heads, self.length, d_head = keys.shape
        capacity = self.length if capacity is None else capacity
        if capacity < self.length:
            raise ValueError(
                f"capacity ({capacity}) is below the {self.length} positions given"
            )
        if capacity > self.length:
            room = (batch, heads, capacity, d_head)
            keys, values = (_grow(x, room, self.length) for x in (keys, values))
        self._keys, self._values = keys, values

    @property
    def keys(self) -> Tensor:
        """Keys so far, `[batch, heads, length, d_head]`."""
        return self._keys[:, :, : self.length]

    @property
    def values(self) -> Tensor:
        """Values so far, `[batch, heads, length, d_head]`."""
        return self._values[:, :, : self.length]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions' keys and values; return all so far."""
        end = self.length + keys.size(2)
        if end > self._keys.size(2):
            raise ValueError(
                f"the cache has room for {self._keys.size(2)} positions, "
                f"{self.length} are taken: "
                f"no room for {keys.size(2)} more"
            )
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep the batch rows `rows`, indices `[new_batch]`, in that order."""
        self._keys = self._keys.index_select(0, rows)
        self._values = self._values.index_select(0, rows)


def _grow(x: Tensor, shape: tuple[int, int, int, int], length: int) -> Tensor:
    grown = x.new_empty(shape)
    grown[:, :, :length] = x
    return grown


@dataclass
class LayerCache:
    """What one decoder layer remembers: its own past, and the encoder's memory."""

    self_attention: KeyValueCache
    cross_attention: KeyValueCache


@dataclass
class DecoderCache:
    """What the decoder remembers: all layers, and which memory keys are real."""

    layers: list[LayerCache]
    memory_mask: Tensor | None

    @property
    def length(self) -> int:
        """Number of target positions decoded so far."""
        return self.layers[0].self_attention.length

    def select(self, rows: Tensor) -> None:
        """Keep the batch rows `rows`, indices `[new_batch]`, in that order."""
        for layer in self.layers:
            layer.self_attention.select(rows)
            layer.cross_attention.select(rows)
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask.index_select(0, rows)
