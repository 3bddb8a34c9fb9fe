"""The name of a writer: one for a process, also if several threads ask for it at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from holdfast._transfer import upload


def test_threads_that_save_at_once_save_under_one_name():
    """Otherwise the server warns a process of another writer, which is the process itself."""
    threads = 8
    together = threading.Barrier(threads)

    def ask(_):
        together.wait()
        return upload.writer()

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(200):
            upload._writer.clear()
            assert len(set(pool.map(ask, range(threads)))) == 1
