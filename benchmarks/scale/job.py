"""A training job's process: saves and loads on request, with the client of the interpreter that runs it.

Run as ``python -P job.py URL FOLDER``, without this repository on the path. Each line of its input is a JSON object:
the method of `Job` under ``do``, and its arguments. Each gets a line of JSON as an answer.
"""

import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path

import torch

from holdfast import CheckpointManager

FLOAT_BYTES = 4
OVERHEAD_BYTES = 800  # what torch.save adds to one tensor


class Job:
    """The requests that a job answers.

    Parameters
    ----------
    url : str
        The server's URL.
    folder : Path
        A folder on the disk that is measured, for files without a server.
    """

    def __init__(self, url, folder):
        self._url = url
        self._folder = folder
        self._managers = {}

    def save(self, directory, times, policy, size_bytes=10_000, for_s=None):
        """Save a state of this size several times, or until the time is over; return the seconds of each save."""
        found = []
        until = time.perf_counter() + for_s if for_s else None
        self._save_until(directory, policy, times, until, size_bytes, found)
        if isinstance(found[-1], Exception):
            raise found[-1]
        return found

    def crowd(self, directories, policy, times=None, for_s=None, size_bytes=10_000):
        """Save in several directories at once, so often or for so many seconds; return all seconds and the time."""
        found, threads = [], []
        started = time.perf_counter()
        until = started + for_s if for_s else None
        for directory in directories:
            work = (directory, policy, times, until, size_bytes, found)
            threads.append(threading.Thread(target=self._save_until, args=work))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(isinstance(each, Exception) for each in found):
            raise next(each for each in found if isinstance(each, Exception))
        return {"took_s": found, "wall_s": time.perf_counter() - started}

    def publish_locally(self, times, size_bytes=10_000):
        """Write, fsync, rename, and fsync the folder; return the seconds of each time."""
        took_s = []
        for number in range(times):
            data = os.urandom(size_bytes)
            started = time.perf_counter()
            new, path = self._folder / "new", self._folder / f"{number}.pt"
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            fsync(self._folder)
            took_s.append(time.perf_counter() - started)
            path.unlink()
        return took_s

    def compare(self, directory, state, rounds):
        """Save and load with the server and with torch alone, in turns; return the seconds of each."""
        manager = self._manager(directory, {"max_checkpoints": 1, "max_best_checkpoints": 1})
        path = self._folder / "local.pt"
        spent = {"save": [], "local_save": [], "load": [], "local_load": []}
        for number in range(rounds + 1):
            value = {"one": one_tensor, "tiny": tiny_tensors}[state]()
            epoch = self._epochs(directory, 1)[0]
            pairs = [
                ("save", lambda value=value, epoch=epoch: manager.save(value, epoch=epoch)),
                ("local_save", lambda value=value: save_locally(value, path)),
                ("load", lambda: manager.load_latest(map_location="cpu")),
                ("local_load", lambda: torch.load(path, map_location="cpu", weights_only=True)),
            ]
            ordered = pairs if number % 2 else [pairs[1], pairs[0], pairs[3], pairs[2]]
            for name, action in ordered:
                took_s = timed(action)
                if number:
                    spent[name].append(took_s)
            path.unlink()
        return spent

    def _save_until(self, directory, policy, times, until, size_bytes, found):
        try:
            manager = self._manager(directory, policy)
            done = 0
            while (times is None or done < times) and (until is None or time.perf_counter() < until):
                found.append(self._save_once(manager, self._epochs(directory, 1)[0], state_of(size_bytes)))
                done += 1
        except Exception as error:  # raised by the thread that waits
            found.append(error)

    def _save_once(self, manager, epoch, state):
        loss = 1 / (1 + epoch % 17)
        return timed(lambda: manager.save(state, epoch=epoch, loss=loss, lr=0.5))

    def _manager(self, directory, policy):
        if directory not in self._managers:
            manager = CheckpointManager(directory, server=self._url, on_unreachable="raise", **policy)
            self._managers[directory] = [manager, time.time_ns() // 1_000_000]
        return self._managers[directory][0]

    def _epochs(self, directory, times):
        """Return epochs that no earlier job has used, so that no save replaces another."""
        first = self._managers[directory][1]
        self._managers[directory][1] += times
        return range(first, first + times)


def state_of(size_bytes):
    """Return a state whose file has about this size."""
    return {"weights": torch.randn((size_bytes - OVERHEAD_BYTES) // FLOAT_BYTES)}


def one_tensor():
    """Return a state of 1 MiB."""
    return {"weights": torch.randn(2**20 // FLOAT_BYTES)}


def tiny_tensors():
    """Return a state of 10,000 tensors of eight numbers."""
    return {f"layers.{number}.bias": torch.randn(8) for number in range(10_000)}


def save_locally(state, path):
    """Save with torch; when this returns, the file and its name are durable."""
    torch.save(state, path)
    fsync(path)
    fsync(path.parent)


def fsync(path):
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def timed(action):
    """Return the seconds of an action; its result lives until the clock has stopped."""
    started = time.perf_counter()
    result = action()
    took_s = time.perf_counter() - started
    del result
    return took_s


def main(url, folder):
    """Answer every line of the input until it ends."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "another process")  # one job after the other uses a directory here
    job = Job(url, Path(folder))
    for line in sys.stdin:
        asked = json.loads(line)
        answer = getattr(job, asked.pop("do"))(**asked)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
