"""Index the batch dimensions of a tensor and leave what each entry consists of alone."""

from typing import Any, cast

from torch import Tensor


def index_batch(tensor: Tensor, index: Any, entry_dims: int) -> Tensor:
    """Index the leading dimensions as a tensor would be, `...` included.

    The last `entry_dims` dimensions make up one entry, a matrix or an image. An index that reaches into them
    is an IndexError: otherwise `cameras[0, 1]` on a one-dimensional batch would hand out a row of a matrix.
    """
    batch_index = cast(tuple[Any, ...], index if isinstance(index, tuple) else (index,))
    return tensor[(*batch_index, *(slice(None),) * entry_dims)]
