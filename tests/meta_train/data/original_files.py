"""Tiny data sets in the formats in which the real ones are published."""

import gzip
import hashlib
import struct

import numpy

from meta_train.data.cifar10 import MD5


def write_idx(file, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(header + array.astype(numpy.uint8).tobytes()))


def write_mnist(folder, name, training=30, test=10):
    """Write images of 28 x 28 pixels whose every pixel is the number of the image."""
    for prefix, count in (("train", training), ("t10k", test)):
        numbers = numpy.arange(count)
        images = numpy.broadcast_to(numbers[:, None, None], (count, 28, 28))
        write_idx(folder / name / "raw" / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / name / "raw" / f"{prefix}-labels-idx1-ubyte.gz", numbers % 10)


def pickled_by_python_2(pixels, labels):
    """Pickle a batch as the published ones are, with names as bytes and a dtype of integers."""
    shape = b"".join(b"J" + struct.pack("<i", size) for size in pixels.shape)
    content = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01(" + shape + b"tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + content + b"tb"
        b"U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"eu."
    )


def write_cifar10(folder, monkeypatch, each=4):
    """Write batches of `each` pictures whose every byte is random, and let their sums be known."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    random = numpy.random.default_rng(0)
    written = {}
    for name in MD5:
        pixels = random.integers(0, 256, (each, 3 * 32 * 32), dtype=numpy.uint8)
        written[name] = pixels, random.integers(0, 10, each).tolist()
        data = pickled_by_python_2(*written[name])
        (batches / name).write_bytes(data)
        monkeypatch.setitem(MD5, name, hashlib.md5(data).hexdigest())
    return written
