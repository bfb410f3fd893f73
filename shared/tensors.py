"""The tensor tour, in NumPy: one small function for each idea, in the order they are met.

The same functions stand in ``torch_impl/tensors.py`` and ``jax_impl/tensors.py``. Where the
default dtype is not the point of a function the dtype is written out, so what differs is the point.
"""

import numpy as np

# Tensors


def scalar() -> np.ndarray:
    """A scalar is a tensor of rank 0: one number and no axes."""
    return np.array(1)


def vector() -> np.ndarray:
    """A vector is a tensor of rank 1."""
    return np.array([1, 2, 3])


def matrix() -> np.ndarray:
    """A matrix is a tensor of rank 2: rows and columns."""
    return np.array([[1, 2], [3, 4]])


def tensor_3d() -> np.ndarray:
    """Higher ranks only nest deeper: a tensor of rank 3 is a list of matrices."""
    return np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


def rank() -> int:
    """The rank is the number of axes, that is, of indices it takes to reach one number."""
    x = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    return x.ndim


def image_batch() -> tuple[int, ...]:
    """A real tensor of rank 4: sixteen colour images of 32 by 32 pixels."""
    images = np.zeros((16, 32, 32, 3), dtype=np.uint8)  # N, H, W, C
    return images.shape


def zeros() -> np.ndarray:
    """A tensor can be filled by its shape alone."""
    return np.zeros((2, 3))


# NumPy arrays and tensors


def arithmetic() -> np.ndarray:
    """Operators work element by element, in all three alike."""
    x = np.array([1, 2, 3], dtype=np.float32)
    y = np.array([4, 5, 6], dtype=np.float32)
    return x * y + 1


def copy_from_numpy() -> np.ndarray:
    """A tensor made by copying an array does not see later writes to the array."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = np.array(a)
    a[0] = 9
    return x


def share_from_numpy() -> np.ndarray:
    """The usual conversion from NumPy: does the tensor see a later write to the array?"""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = np.asarray(a)
    a[0] = 9
    return x


def zero_copy_to_numpy() -> bool:
    """On the CPU, the way back to NumPy copies nothing: both names have the same address."""
    x = np.array([1, 2, 3], dtype=np.float32)
    a = np.asarray(x)
    return a.ctypes.data == x.ctypes.data


def write_through_numpy() -> np.ndarray:
    """What happens to the tensor when the NumPy array that shares its memory is written to?"""
    x = np.array([1, 2, 3], dtype=np.float32)
    a = np.asarray(x)
    a[0] = 9
    return x


def dlpack() -> np.ndarray:
    """DLPack hands a buffer from one library to another: from NumPy and back here."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = np.from_dlpack(a)
    return np.from_dlpack(x)


def gradient() -> float:
    """What tensors add to arrays: dy/dx through y = u^2 and u = 3x + 1, at x = 1."""

    def y(x: float) -> float:
        u = 3 * x + 1
        return u**2

    x, h = np.float64(1), 1e-5
    return (y(x + h) - y(x - h)) / (2 * h)


def device() -> str:
    """What tensors add to arrays: each one lives on a device, and this is the default."""
    x = np.ones(3)
    return str(x.device)


def to_device() -> str:
    """A tensor is moved to a device by name."""
    x = np.ones(3)
    return x.to_device("cpu").device


# Dtypes


def python_ints() -> np.dtype:
    """Python integers take the default integer dtype."""
    return np.array([1, 2, 3]).dtype


def python_floats() -> np.dtype:
    """Python floats take the default floating dtype."""
    return np.array([1.0, 2.0, 3.0]).dtype


def explicit_dtype() -> np.ndarray:
    """A dtype that is written out is the same everywhere."""
    return np.array([1, 2, 3], dtype=np.float32)


def convert() -> np.ndarray:
    """Conversion makes a new tensor of the dtype asked for."""
    x = np.array([1, 2, 3])
    return x.astype(np.float32)


def convert_to_int() -> np.ndarray:
    """Conversion to an integer dtype drops the fraction, towards zero."""
    x = np.array([1.9, -1.9], dtype=np.float32)
    return x.astype(np.int32)


def numpy_float64() -> np.dtype:
    """A float64 array from NumPy: does it keep its digits on arrival?"""
    a = np.array([0.1, 0.2])
    return np.asarray(a).dtype


def large_int() -> np.ndarray:
    """A Python integer that needs more than 32 bits."""
    return np.array([2**40])


# Operations


def shape() -> tuple[int, ...]:
    """The shape is the length along each axis."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a.shape


def reshape() -> np.ndarray:
    """Reshape keeps the numbers and their order, here as four rows of one."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a.reshape(4, 1)


def view() -> np.ndarray:
    """In PyTorch a view is a reshape that never copies; -1 stands for the length that is left."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a.reshape(-1)  # .view changes the dtype


def transpose() -> np.ndarray:
    """The transpose swaps rows and columns."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a.T


def matmul() -> np.ndarray:
    """The matrix product takes rows of the left with columns of the right."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a @ a.T


def broadcast() -> np.ndarray:
    """In arithmetic, an axis that is missing or of length 1 is stretched to fit."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    row = np.array([10, 20], dtype=np.float32)
    return a + row


def mean_of_rows() -> np.ndarray:
    """A reduction names the axis that it removes."""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    mean: np.ndarray = a.mean(axis=0)
    return mean


def channels_first() -> tuple[int, ...]:
    """Any order of axes can be had: images from N, H, W, C to N, C, H, W."""
    x = np.zeros((16, 32, 32, 3), dtype=np.uint8)
    y = x.transpose(0, 3, 1, 2)
    return y.shape


# Differences to know


def item_assignment() -> np.ndarray:
    """Can one element be overwritten in place?"""
    x = np.array([1, 2, 3], dtype=np.float32)
    x[0] = 9
    return x


def updated_copy() -> tuple[np.ndarray, np.ndarray]:
    """What always works: leave the original alone and change a copy."""
    x = np.array([1, 2, 3], dtype=np.float32)
    y = x.copy()
    y[0] = 9
    return x, y


def augmented_assignment() -> np.ndarray:
    """After y = x, does y += 1 change x?"""
    x = np.array([1, 2, 3], dtype=np.float32)
    y = x
    y += 1
    return x


def write_to_a_slice() -> np.ndarray:
    """Does a write to a slice reach the tensor that it was cut from?"""
    x = np.array([1, 2, 3], dtype=np.float32)
    part = x[:2]
    part[0] = 9
    return x


def write_to_a_reshape() -> np.ndarray:
    """Does a write to a reshaped tensor reach the original?"""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    flat = a.reshape(4)
    flat[0] = 9
    return a


def view_of_a_transpose() -> np.ndarray:
    """A transpose is not laid out row by row: can it be flattened as a view?"""
    a = np.array([[1, 2], [3, 4]], dtype=np.float32)
    return a.T.reshape(4)


def int32_plus_float32() -> np.dtype:
    """The dtype of an int32 array plus a float32 array."""
    i = np.array([1, 2, 3], dtype=np.int32)
    f = np.array([1, 2, 3], dtype=np.float32)
    return (i + f).dtype


def default_int_plus_float32() -> np.dtype:
    """The dtype of an array of Python integers plus a float32 array."""
    i = np.array([1, 2, 3])
    f = np.array([1, 2, 3], dtype=np.float32)
    return (i + f).dtype


def int_plus_python_float() -> np.dtype:
    """The dtype of an integer array plus a Python float."""
    i = np.array([1, 2, 3], dtype=np.int32)
    return (i + 0.5).dtype


def float16_plus_python_float() -> np.dtype:
    """A Python float takes on the dtype of the floating array that it meets."""
    h = np.ones(3, dtype=np.float16)
    return (h + 0.5).dtype


def float16_plus_scalar_array() -> np.dtype:
    """Does a float32 tensor of rank 0 count as much as one with axes?"""
    h = np.ones(3, dtype=np.float16)
    s = np.array(0.5, dtype=np.float32)
    return (h + s).dtype


def float16_plus_bfloat16() -> np.dtype | AttributeError:
    """The dtype of the two 16-bit floats added: neither holds the other's numbers."""
    try:
        h = np.ones(3, dtype=np.float16)
        b = np.ones(3, dtype=np.bfloat16)  # type: ignore[attr-defined]
        return (h + b).dtype
    except AttributeError as error:
        return error


def true_division() -> np.dtype:
    """The dtype of one integer array divided by another."""
    i = np.array([1, 2, 3], dtype=np.int32)
    return (i / i).dtype


def floor_division() -> np.ndarray:
    """Integer division rounds towards minus infinity, as in Python."""
    i = np.array([7, -7], dtype=np.int32)
    return i // 2


def integer_overflow() -> np.ndarray:
    """An integer that outgrows its dtype wraps round without a word."""
    i = np.array([2**31 - 1], dtype=np.int32)
    return i + 1


def mean_of_integers() -> np.floating:
    """The mean of an integer array is no integer: which dtype is chosen?"""
    i = np.array([1, 2], dtype=np.int32)
    mean: np.floating = i.mean()
    return mean


def standard_deviation() -> np.floating:
    """The default standard deviation: divided by n, or by n - 1?"""
    x = np.array([1, 2, 3, 4], dtype=np.float32)
    deviation: np.floating = x.std()
    return deviation


def read_out_of_range() -> np.floating | IndexError:
    """Reading at index 10 of a vector of three."""
    try:
        x = np.array([1, 2, 3], dtype=np.float32)
        element: np.floating = x[10]
        return element
    except IndexError as error:
        return error


def write_out_of_range() -> np.ndarray | IndexError:
    """Writing at index 10 of a vector of three."""
    try:
        x = np.array([1, 2, 3], dtype=np.float32)
        x[10] = 9
        return x
    except IndexError as error:
        return error


def random_numbers() -> np.ndarray:
    """Normal numbers from seed 0: each library has a generator of its own."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(2, dtype=np.float32)


def random_twice() -> bool:
    """Drawing twice from one source of randomness: are the numbers the same?"""
    rng = np.random.default_rng(0)
    first = rng.standard_normal(2)
    second = rng.standard_normal(2)
    return np.array_equal(first, second)
