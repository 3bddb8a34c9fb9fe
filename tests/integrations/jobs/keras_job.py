"""A training with Keras: keras_job.py DIRECTORY OUT [--epochs N] [--kill-at EPOCH].

It writes the weights at its end to OUT; ``--kill-at`` ends the process by SIGKILL amid that epoch.
"""

import argparse
import os
import signal

import keras
import numpy

from holdfast.integrations.keras import HoldfastCallback, load_latest

INPUTS = numpy.random.default_rng(0).standard_normal((48, 4)).astype("float32")


class Kill(keras.callbacks.Callback):
    """Ends the process amid an epoch."""

    def __init__(self, epoch: int | None) -> None:
        super().__init__()
        self._epoch = epoch
        self._is_now = False

    def on_epoch_begin(self, epoch, logs=None):
        self._is_now = epoch + 1 == self._epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._is_now and batch >= 1:
            os.kill(os.getpid(), signal.SIGKILL)


def made() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.AdamW(0.05), "mse", metrics=["mae"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    model, done = load_latest(given.directory)
    print("begun" if model is None else f"resumed at {done}", keras.backend.backend(), flush=True)
    model = model or made()
    model.fit(
        INPUTS,
        INPUTS.sum(1, keepdims=True),
        batch_size=8,
        validation_split=0.25,
        epochs=given.epochs,
        initial_epoch=done,
        shuffle=False,
        verbose=0,
        callbacks=[HoldfastCallback(given.directory, keep_last=2, keep_best=1, patience_s=1), Kill(given.kill_at)],
    )
    numpy.savez(given.out, *[keras.ops.convert_to_numpy(each) for each in [*model.weights, *model.optimizer.variables]])


if __name__ == "__main__":
    main()
