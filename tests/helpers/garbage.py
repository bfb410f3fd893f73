"""What is there before the first test is not looked through again by the garbage collector.

Two frameworks and thousands of tests are millions of objects, and every full collection of a run,
its own or one that a test asks for, would visit all of them.
"""

import gc


def pytest_collection_finish() -> None:
    """Set aside the objects of all imported modules and collected tests."""
    gc.collect()
    gc.freeze()
