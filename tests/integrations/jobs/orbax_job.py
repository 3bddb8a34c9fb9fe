"""A training with JAX: orbax_job.py DIRECTORY OUT [--steps N] [--kill-at STEP].

Its parameters are sharded over all devices. It writes them at its end to OUT; ``--kill-at`` ends it by SIGKILL then.
"""

import argparse
import os
import signal

import jax
import jax.numpy as jnp
import numpy

from holdfast import CheckpointManager
from holdfast.integrations.orbax import restore, save

INPUTS = jnp.asarray(numpy.random.default_rng(0).standard_normal((32, 8)), jnp.float32)


def begun() -> dict:
    mesh = jax.make_mesh((jax.device_count(),), ("x",))
    state = {"weights": jnp.zeros(8), "momentum": jnp.zeros(8), "key": jax.random.key_data(jax.random.key(0))}
    specs = {"weights": jax.P("x"), "momentum": jax.P("x"), "key": jax.P()}
    return {name: jax.device_put(state[name], jax.NamedSharding(mesh, spec)) for name, spec in specs.items()}


@jax.jit
def stepped(state: dict) -> tuple[dict, jax.Array]:
    key, noise = jax.random.split(jax.random.wrap_key_data(state["key"]))

    def loss_of(weights):
        noisy = INPUTS + 0.1 * jax.random.normal(noise, INPUTS.shape)
        return jnp.mean((noisy @ weights - INPUTS.sum(1)) ** 2)

    loss, gradient = jax.value_and_grad(loss_of)(state["weights"])
    momentum = 0.9 * state["momentum"] + gradient
    weights = state["weights"] - 0.01 * momentum
    return {"weights": weights, "momentum": momentum, "key": jax.random.key_data(key)}, loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    with CheckpointManager(given.directory, background=True, patience_s=1) as manager:
        state, done = restore(manager, target=begun())
        print("begun" if state is None else f"resumed at {done}", flush=True)
        state = state or begun()
        print("on", len(state["weights"].sharding.device_set), "devices", flush=True)
        for step in range(done + 1, given.steps + 1):
            state, loss = stepped(state)
            save(manager, step, state, {"loss": loss})
            if step == given.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    numpy.savez(given.out, **state)


if __name__ == "__main__":
    main()
