"""The tensor tour, in JAX: one small function for each idea, in the order they are met.

The same functions stand in ``shared/tensors.py`` (NumPy) and ``torch_impl/tensors.py``. Where the
default dtype is not the point of a function the dtype is written out, so what differs is the point.
Dtypes are those that JAX has when installed: at most 32 bits, until ``jax_enable_x64`` is set.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Tensors


def scalar() -> Array:
    """A scalar is a tensor of rank 0: one number and no axes."""
    return jnp.array(1)


def vector() -> Array:
    """A vector is a tensor of rank 1."""
    return jnp.array([1, 2, 3])


def matrix() -> Array:
    """A matrix is a tensor of rank 2: rows and columns."""
    return jnp.array([[1, 2], [3, 4]])


def tensor_3d() -> Array:
    """Higher ranks only nest deeper: a tensor of rank 3 is a list of matrices."""
    return jnp.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


def rank() -> int:
    """The rank is the number of axes, that is, of indices it takes to reach one number."""
    x = jnp.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    return x.ndim


def image_batch() -> tuple[int, ...]:
    """A real tensor of rank 4: sixteen colour images of 32 by 32 pixels."""
    images = jnp.zeros((16, 32, 32, 3), dtype=jnp.uint8)  # N, H, W, C
    return images.shape


def zeros() -> Array:
    """A tensor can be filled by its shape alone."""
    return jnp.zeros((2, 3))


# NumPy arrays and tensors


def arithmetic() -> Array:
    """Operators work element by element, in all three alike."""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    y = jnp.array([4, 5, 6], dtype=jnp.float32)
    return x * y + 1


def copy_from_numpy() -> Array:
    """A tensor made by copying an array does not see later writes to the array."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = jnp.array(a)
    a[0] = 9
    return x


def share_from_numpy() -> Array:
    """The usual conversion from NumPy: does the tensor see a later write to the array?"""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = jnp.asarray(a)
    a[0] = 9
    return x


def zero_copy_to_numpy() -> bool:
    """On the CPU, the way back to NumPy copies nothing: both names have the same address."""
    cpu = jax.devices("cpu")[0]
    x = jnp.array([1, 2, 3], dtype=jnp.float32, device=cpu)
    a = np.asarray(x)
    return a.ctypes.data == x.unsafe_buffer_pointer()


def write_through_numpy() -> Array | ValueError:
    """What happens to the tensor when the NumPy array that shares its memory is written to?"""
    try:
        x = jnp.array([1, 2, 3], dtype=jnp.float32)
        a = np.asarray(x)
        a[0] = 9
        return x
    except ValueError as error:
        return error


def dlpack() -> np.ndarray:
    """DLPack hands a buffer from one library to another: from NumPy and back here."""
    a = np.array([1, 2, 3], dtype=np.float32)
    x = jnp.from_dlpack(a)
    return np.from_dlpack(x)  # type: ignore[arg-type]


def gradient() -> Array:
    """What tensors add to arrays: dy/dx through y = u^2 and u = 3x + 1, at x = 1."""

    def y(x: Array) -> Array:
        u = 3 * x + 1
        return u**2

    return jax.grad(y)(1.0)


def device() -> str:
    """What tensors add to arrays: each one lives on a device, and this is the default."""
    x = jnp.ones(3)
    return str(x.device)


def to_device() -> str:
    """A tensor is moved to a device by name."""
    cpu = jax.devices("cpu")[0]
    x = jax.device_put(jnp.ones(3), cpu)
    return x.device.platform


# Dtypes


def python_ints() -> np.dtype:
    """Python integers take the default integer dtype."""
    return jnp.array([1, 2, 3]).dtype


def python_floats() -> np.dtype:
    """Python floats take the default floating dtype."""
    return jnp.array([1.0, 2.0, 3.0]).dtype


def explicit_dtype() -> Array:
    """A dtype that is written out is the same everywhere."""
    return jnp.array([1, 2, 3], dtype=jnp.float32)


def convert() -> Array:
    """Conversion makes a new tensor of the dtype asked for."""
    x = jnp.array([1, 2, 3])
    return x.astype(jnp.float32)


def convert_to_int() -> Array:
    """Conversion to an integer dtype drops the fraction, towards zero."""
    x = jnp.array([1.9, -1.9], dtype=jnp.float32)
    return x.astype(jnp.int32)


def numpy_float64() -> np.dtype:
    """A float64 array from NumPy: does it keep its digits on arrival?"""
    a = np.array([0.1, 0.2])
    return jnp.asarray(a).dtype


def large_int() -> Array | OverflowError:
    """A Python integer that needs more than 32 bits."""
    try:
        return jnp.array([2**40])
    except OverflowError as error:
        return error


# Operations


def shape() -> tuple[int, ...]:
    """The shape is the length along each axis."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.shape


def reshape() -> Array:
    """Reshape keeps the numbers and their order, here as four rows of one."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.reshape(4, 1)


def view() -> Array:
    """In PyTorch a view is a reshape that never copies; -1 stands for the length that is left."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.reshape(-1)  # .view changes the dtype


def transpose() -> Array:
    """The transpose swaps rows and columns."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.T


def matmul() -> Array:
    """The matrix product takes rows of the left with columns of the right."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a @ a.T


def broadcast() -> Array:
    """In arithmetic, an axis that is missing or of length 1 is stretched to fit."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    row = jnp.array([10, 20], dtype=jnp.float32)
    return a + row


def mean_of_rows() -> Array:
    """A reduction names the axis that it removes."""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.mean(axis=0)


def channels_first() -> tuple[int, ...]:
    """Any order of axes can be had: images from N, H, W, C to N, C, H, W."""
    x = jnp.zeros((16, 32, 32, 3), dtype=jnp.uint8)
    y = x.transpose(0, 3, 1, 2)
    return y.shape


# Differences to know


def item_assignment() -> Array | TypeError:
    """Can one element be overwritten in place?"""
    try:
        x = jnp.array([1, 2, 3], dtype=jnp.float32)
        x[0] = 9
        return x
    except TypeError as error:
        return error


def updated_copy() -> tuple[Array, Array]:
    """What always works: leave the original alone and change a copy."""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    y = x.at[0].set(9)
    return x, y


def augmented_assignment() -> Array:
    """After y = x, does y += 1 change x?"""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    y = x
    y += 1
    return x


def write_to_a_slice() -> Array:
    """Does a write to a slice reach the tensor that it was cut from?"""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    part = x[:2]
    part = part.at[0].set(9)
    return x


def write_to_a_reshape() -> Array:
    """Does a write to a reshaped tensor reach the original?"""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    flat = a.reshape(4)
    flat = flat.at[0].set(9)
    return a


def view_of_a_transpose() -> Array:
    """A transpose is not laid out row by row: can it be flattened as a view?"""
    a = jnp.array([[1, 2], [3, 4]], dtype=jnp.float32)
    return a.T.reshape(4)


def int32_plus_float32() -> np.dtype:
    """The dtype of an int32 array plus a float32 array."""
    i = jnp.array([1, 2, 3], dtype=jnp.int32)
    f = jnp.array([1, 2, 3], dtype=jnp.float32)
    return (i + f).dtype


def default_int_plus_float32() -> np.dtype:
    """The dtype of an array of Python integers plus a float32 array."""
    i = jnp.array([1, 2, 3])
    f = jnp.array([1, 2, 3], dtype=jnp.float32)
    return (i + f).dtype


def int_plus_python_float() -> np.dtype:
    """The dtype of an integer array plus a Python float."""
    i = jnp.array([1, 2, 3], dtype=jnp.int32)
    return (i + 0.5).dtype


def float16_plus_python_float() -> np.dtype:
    """A Python float takes on the dtype of the floating array that it meets."""
    h = jnp.ones(3, dtype=jnp.float16)
    return (h + 0.5).dtype


def float16_plus_scalar_array() -> np.dtype:
    """Does a float32 tensor of rank 0 count as much as one with axes?"""
    h = jnp.ones(3, dtype=jnp.float16)
    s = jnp.array(0.5, dtype=jnp.float32)
    return (h + s).dtype


def float16_plus_bfloat16() -> np.dtype:
    """The dtype of the two 16-bit floats added: neither holds the other's numbers."""
    h = jnp.ones(3, dtype=jnp.float16)
    b = jnp.ones(3, dtype=jnp.bfloat16)
    return (h + b).dtype


def true_division() -> np.dtype:
    """The dtype of one integer array divided by another."""
    i = jnp.array([1, 2, 3], dtype=jnp.int32)
    return (i / i).dtype


def floor_division() -> Array:
    """Integer division rounds towards minus infinity, as in Python."""
    i = jnp.array([7, -7], dtype=jnp.int32)
    return i // 2


def integer_overflow() -> Array:
    """An integer that outgrows its dtype wraps round without a word."""
    i = jnp.array([2**31 - 1], dtype=jnp.int32)
    return i + 1


def mean_of_integers() -> Array:
    """The mean of an integer array is no integer: which dtype is chosen?"""
    i = jnp.array([1, 2], dtype=jnp.int32)
    return i.mean()


def standard_deviation() -> Array:
    """The default standard deviation: divided by n, or by n - 1?"""
    x = jnp.array([1, 2, 3, 4], dtype=jnp.float32)
    return x.std()


def read_out_of_range() -> Array:
    """Reading at index 10 of a vector of three."""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    return x[10]


def write_out_of_range() -> Array:
    """Writing at index 10 of a vector of three."""
    x = jnp.array([1, 2, 3], dtype=jnp.float32)
    x = x.at[10].set(9)
    return x


def random_numbers() -> Array:
    """Normal numbers from seed 0: each library has a generator of its own."""
    key = jax.random.key(0)
    return jax.random.normal(key, (2,))


def random_twice() -> bool:
    """Drawing twice from one source of randomness: are the numbers the same?"""
    key = jax.random.key(0)
    first = jax.random.normal(key, (2,))
    second = jax.random.normal(key, (2,))
    return bool(jnp.array_equal(first, second))
