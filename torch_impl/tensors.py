"""The tensor tour, in PyTorch: one small function for each idea, in the order they are met.

The same functions stand in ``shared/tensors.py`` (NumPy) and ``jax_impl/tensors.py``. Where the
default dtype is not the point of a function the dtype is written out, so what differs is the point.
"""

import numpy as np
import torch
from torch import Tensor

# Tensors


def scalar() -> Tensor:
    """A scalar is a tensor of rank 0: one number and no axes."""
    return torch.tensor(1)


def vector() -> Tensor:
    """A vector is a tensor of rank 1."""
    return torch.tensor([1, 2, 3])


def matrix() -> Tensor:
    """A matrix is a tensor of rank 2: rows and columns."""
    return torch.tensor([[1, 2], [3, 4]])


def tensor_3d() -> Tensor:
    """Higher ranks only nest deeper: a tensor of rank 3 is a list of matrices."""
    return torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


def rank() -> int:
    """The rank is the number of axes, that is, of indices it takes to reach one number."""
    x = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    return x.ndim


def image_batch() -> tuple[int, ...]:
    """A real tensor of rank 4: sixteen colour images of 32 by 32 pixels."""
    images = torch.zeros(16, 3, 32, 32, dtype=torch.uint8)  # N, C, H, W
    return images.shape


def zeros() -> Tensor:
    """A tensor can be filled by its shape alone."""
    return torch.zeros(2, 3)


# NumPy arrays and tensors


def arithmetic() -> Tensor:
    """Operators work element by element, in all three alike."""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    y = torch.tensor([4, 5, 6], dtype=torch.float32)
    return x * y + 1


def copy_from_numpy() -> Tensor:
    """A tensor made by copying an array does not see later writes to the array."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = torch.tensor(a)
    a[0] = 9
    return x


def share_from_numpy() -> Tensor:
    """The usual conversion from NumPy: does the tensor see a later write to the array?"""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = torch.from_numpy(a)
    a[0] = 9
    return x


def zero_copy_to_numpy() -> bool:
    """On the CPU, the way back to NumPy copies nothing: both names have the same address."""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    a = x.numpy()
    return a.ctypes.data == x.data_ptr()


def write_through_numpy() -> Tensor:
    """What happens to the tensor when the NumPy array that shares its memory is written to?"""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    a = x.numpy()
    a[0] = 9
    return x


def dlpack() -> np.ndarray:
    """DLPack hands a buffer from one library to another: from NumPy and back here."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = torch.from_dlpack(a)
    return np.from_dlpack(x)


def gradient() -> Tensor | None:
    """What tensors add to arrays: dy/dx through y = u^2 and u = 3x + 1, at x = 1."""
    x = torch.tensor(1.0, requires_grad=True)
    u = 3 * x + 1
    y = u**2
    y.backward()
    return x.grad


def device() -> str:
    """What tensors add to arrays: each one lives on a device, and this is the default."""
    x = torch.ones(3)
    return str(x.device)


def to_device() -> str:
    """A tensor is moved to a device by name."""
    x = torch.ones(3)
    return x.to("cpu").device.type


# Dtypes


def python_ints() -> torch.dtype:
    """Python integers take the default integer dtype."""
    return torch.tensor([1, 2, 3]).dtype


def python_floats() -> torch.dtype:
    """Python floats take the default floating dtype."""
    return torch.tensor([1.0, 2.0, 3.0]).dtype


def explicit_dtype() -> Tensor:
    """A dtype that is written out is the same everywhere."""
    return torch.tensor([1, 2, 3], dtype=torch.float32)


def convert() -> Tensor:
    """Conversion makes a new tensor of the dtype asked for."""
    x = torch.tensor([1, 2, 3])
    return x.to(torch.float32)


def convert_to_int() -> Tensor:
    """Conversion to an integer dtype drops the fraction, towards zero."""
    x = torch.tensor([1.9, -1.9], dtype=torch.float32)
    return x.to(torch.int32)


def numpy_float64() -> torch.dtype:
    """A float64 array from NumPy: does it keep its digits on arrival?"""
    a = np.array([0.1, 0.2])
    return torch.from_numpy(a).dtype


def large_int() -> Tensor:
    """A Python integer that needs more than 32 bits."""
    return torch.tensor([2**40])


# Operations


def shape() -> tuple[int, ...]:
    """The shape is the length along each axis."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a.shape


def reshape() -> Tensor:
    """Reshape keeps the numbers and their order, here as four rows of one."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a.reshape(4, 1)


def view() -> Tensor:
    """In PyTorch a view is a reshape that never copies; -1 stands for the length that is left."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a.view(-1)


def transpose() -> Tensor:
    """The transpose swaps rows and columns."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a.T


def matmul() -> Tensor:
    """The matrix product takes rows of the left with columns of the right."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a @ a.T


def broadcast() -> Tensor:
    """In arithmetic, an axis that is missing or of length 1 is stretched to fit."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    row = torch.tensor([10, 20], dtype=torch.float32)
    return a + row


def mean_of_rows() -> Tensor:
    """A reduction names the axis that it removes."""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    return a.mean(dim=0)


def channels_first() -> tuple[int, ...]:
    """Any order of axes can be had: images from N, H, W, C to N, C, H, W."""
    x = torch.zeros(16, 32, 32, 3, dtype=torch.uint8)
    y = x.permute(0, 3, 1, 2)
    return y.shape


# Differences to know


def item_assignment() -> Tensor:
    """Can one element be overwritten in place?"""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    x[0] = 9
    return x


def updated_copy() -> tuple[Tensor, Tensor]:
    """What always works: leave the original alone and change a copy."""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    y = x.clone()
    y[0] = 9
    return x, y


def augmented_assignment() -> Tensor:
    """After y = x, does y += 1 change x?"""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    y = x
    y += 1
    return x


def write_to_a_slice() -> Tensor:
    """Does a write to a slice reach the tensor that it was cut from?"""
    x = torch.tensor([1, 2, 3], dtype=torch.float32)
    part = x[:2]
    part[0] = 9
    return x


def write_to_a_reshape() -> Tensor:
    """Does a write to a reshaped tensor reach the original?"""
    a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    flat = a.reshape(4)
    flat[0] = 9
    return a


def view_of_a_transpose() -> Tensor | RuntimeError:
    """A transpose is not laid out row by row: can it be flattened as a view?"""
    try:
        a = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
        return a.T.view(4)
    except RuntimeError as error:
        return error


def int32_plus_float32() -> torch.dtype:
    """The dtype of an int32 array plus a float32 array."""
    i = torch.tensor([1, 2, 3], dtype=torch.int32)
    f = torch.tensor([1, 2, 3], dtype=torch.float32)
    return (i + f).dtype


def default_int_plus_float32() -> torch.dtype:
    """The dtype of an array of Python integers plus a float32 array."""
    i = torch.tensor([1, 2, 3])
    f = torch.tensor([1, 2, 3], dtype=torch.float32)
    return (i + f).dtype


def int_plus_python_float() -> torch.dtype:
    """The dtype of an integer array plus a Python float."""
    i = torch.tensor([1, 2, 3], dtype=torch.int32)
    return (i + 0.5).dtype


def float16_plus_python_float() -> torch.dtype:
    """A Python float takes on the dtype of the floating array that it meets."""
    h = torch.ones(3, dtype=torch.float16)
    return (h + 0.5).dtype


def float16_plus_scalar_array() -> torch.dtype:
    """Does a float32 tensor of rank 0 count as much as one with axes?"""
    h = torch.ones(3, dtype=torch.float16)
    s = torch.tensor(0.5, dtype=torch.float32)
    return (h + s).dtype


def float16_plus_bfloat16() -> torch.dtype:
    """The dtype of the two 16-bit floats added: neither holds the other's numbers."""
    h = torch.ones(3, dtype=torch.float16)
    b = torch.ones(3, dtype=torch.bfloat16)
    return (h + b).dtype


def true_division() -> torch.dtype:
    """The dtype of one integer array divided by another."""
    i = torch.tensor([1, 2, 3], dtype=torch.int32)
    return (i / i).dtype


def floor_division() -> Tensor:
    """Integer division rounds towards minus infinity, as in Python."""
    i = torch.tensor([7, -7], dtype=torch.int32)
    return i // 2


def integer_overflow() -> Tensor:
    """An integer that outgrows its dtype wraps round without a word."""
    i = torch.tensor([2**31 - 1], dtype=torch.int32)
    return i + 1


def mean_of_integers() -> Tensor | RuntimeError:
    """The mean of an integer array is no integer: which dtype is chosen?"""
    try:
        i = torch.tensor([1, 2], dtype=torch.int32)
        return i.mean()
    except RuntimeError as error:
        return error


def standard_deviation() -> Tensor:
    """The default standard deviation: divided by n, or by n - 1?"""
    x = torch.tensor([1, 2, 3, 4], dtype=torch.float32)
    return x.std()


def read_out_of_range() -> Tensor | IndexError:
    """Reading at index 10 of a vector of three."""
    try:
        x = torch.tensor([1, 2, 3], dtype=torch.float32)
        return x[10]
    except IndexError as error:
        return error


def write_out_of_range() -> Tensor | IndexError:
    """Writing at index 10 of a vector of three."""
    try:
        x = torch.tensor([1, 2, 3], dtype=torch.float32)
        x[10] = 9
        return x
    except IndexError as error:
        return error


def random_numbers() -> Tensor:
    """Normal numbers from seed 0: each library has a generator of its own."""
    generator = torch.Generator()
    generator.manual_seed(0)
    return torch.randn(2, generator=generator)


def random_twice() -> bool:
    """Drawing twice from one source of randomness: are the numbers the same?"""
    generator = torch.Generator()
    generator.manual_seed(0)
    first = torch.randn(2, generator=generator)
    second = torch.randn(2, generator=generator)
    return torch.equal(first, second)
