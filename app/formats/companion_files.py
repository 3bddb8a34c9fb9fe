"""Companions: files of other tools that belong together by their names, and are adopted together or not at all."""

import re
from collections.abc import Collection

from app.core.names import escaped

_PARTS = re.compile(
    r"\.metadata|.+\.distcp"  # torch.distributed.checkpoint
    r"|saved_model\.pb(txt)?|keras_metadata\.pb|fingerprint\.pb"  # TensorFlow
    r"|_checkpoint_metadata|_metadata|_sharding|manifest\.ocdbt|ocdbt\.process_\d+|commit_success\.txt"  # Orbax
    r"|consolidated\.\d+\.(?:pth|safetensors)|pytorch_model_fsdp_\d+|optimizer_\d+"  # Llama, FSDP by Accelerate
    r"|model_index\.json|.+\.index\.json|.+[-_]\d{5}-of-\d{5}\..+"  # diffusers, shards
    r"|mp_rank_\d+.*|(?:bf16_)?zero_pp_rank_.+|layer_\d+-model.+"  # Megatron, DeepSpeed
    r"|trainer_state\.json|training_args\.bin|adapter_config\.json"  # Transformers, PEFT
    r"|(?:random_states|rng_state|rng)(?:_\d+)?\.(?:pkl|pth|pt|bin)|custom_checkpoint_\d+\.pkl"  # Accelerate
    r"|(?:opt|optim|optimizers?|optimizer_state|scheduler|lr_scheduler|scaler|sampler|dataloader|ema|trainer"
    r"|train(?:ing|er)?_state|meta)(?:[_-]?\d+)?\.(?:pt|pth|bin|pkl|safetensors|ckpt|npz)",
    re.IGNORECASE,
)
_OF_ITS_CHECKPOINTS = {"recipe_state": re.compile(r"epoch_\d+")}
"""Folders with the state of a training, and the names of its checkpoints beside them: torchtune."""
_MODULES, _MODULE = "modules.json", re.compile(r"\d+_[A-Z]\w*")  # sentence-transformers
_PIPELINE = {"model_index.json", "saved_model.pb", "saved_model.pbtxt", "_CHECKPOINT_METADATA", _MODULES}
_MODEL = re.compile(
    r"(?:pytorch_model|model|adapter_model|diffusion_pytorch_model)\.(?:bin|safetensors)", re.IGNORECASE
)
_OF_A_MODEL = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
_BESIDE_A_MODEL = re.compile(
    r"(?:model_|open_clip_|generation_|tokenizer_|(?:pre)?processor_)?config\.(?:json|ya?ml)|params\.json|tokenizer\.json"
    r"|tokenizer\.model(?:\.v\d+)?|vocab\.(?:json|txt)|merges\.txt|special_tokens_map\.json|spiece\.model"
    r"|sentencepiece\.bpe\.model|dict\.txt|modules\.json",
    re.IGNORECASE,
)
_OF_A_RUN = re.compile(r"(?<![a-z])(?:best|last|latest|newest|final|epoch|ep|step|iter|checkpoint|ckpt)(?![a-z])", re.I)
_SIDE = (
    *(".opt", ".optim", ".optimizer", ".state", ".states", ".rng", ".ema", ".pkl", ".bin", ".npz", ".index"),
    *(".json", ".yaml", ".yml", ".toml", ".meta"),
)
_SHOWN = 3

OTHER_FORMATS = (
    *(".bin", ".h5", ".hdf5", ".keras", ".msgpack", ".onnx", ".gguf", ".pdparams", ".distcp", ".index", ".tar"),
)
"""Suffixes of files that may be weights; by itself, one is adopted only if its content tells."""


def parts(names: Collection[str]) -> list[str]:
    """Return the names in one folder that are parts of one checkpoint of several files."""
    found = [name for name in names if _PARTS.fullmatch(name)]
    if any(_MODEL.fullmatch(name) for name in names):
        found += [name for name in names if name in _OF_A_MODEL]
    if _MODULES in names and (modules := [name for name in names if _MODULE.fullmatch(name)]):
        found += [_MODULES, *modules]
    return sorted(found)


def pipeline(names: Collection[str]) -> list[str]:
    """Return the names in one folder that mark its subfolders as parts of one checkpoint."""
    return sorted(name for name in names if name in _PIPELINE)


def of_last_checkpoint(name: str, folders: Collection[str]) -> list[str]:
    """Return the folders beside one that holds the state of a training at its last checkpoint; empty for others."""
    checkpoint = _OF_ITS_CHECKPOINTS.get(name)
    return sorted(filter(checkpoint.fullmatch, folders)) if checkpoint is not None else []


def of_a_model(names: Collection[str], weights: Collection[str]) -> list[str]:
    """Return the files beside weights that a model needs; empty if the weights are checkpoints of a training run.

    A run is recognised by names such as ``best`` or ``epoch_3``, or by several that differ in a number. Its
    ``config.json`` describes the run and belongs to no single checkpoint.
    """
    series = {re.sub(r"[0-9]+", "#", name) for name in weights}
    if any(map(_OF_A_RUN.search, weights)) or len(series) < len(weights):
        return []
    return sorted(name for name in names if _BESIDE_A_MODEL.fullmatch(name))


def beside(name: str, names: Collection[str], together: Collection[str]) -> list[str]:
    """Return the companions of one file in a folder: the parts of a checkpoint there, and files with its stem."""
    stem = name.rpartition(".")[0]
    found = {other for other in names if other.startswith(f"{stem}.") and other.lower().endswith(_SIDE)}
    return sorted((found | set(together)) - {name})


def reason(companions: Collection[str]) -> str:
    """Return the reason to leave a file with companions alone."""
    return (
        f"it belongs with {_listed(companions)}: such files are taken in together, as a folder: "
        "run adopt on the folder above it"
    )


def reason_for_group(companions: Collection[str]) -> str:
    """Return the reason to leave a file or folder alone that belongs to others by its name only."""
    return (
        f"it belongs with {_listed(companions)}, by its name: put them together into a folder with the name of a "
        "checkpoint, such as checkpoint-500, which is taken in whole"
    )


def reason_for_state(checkpoints: Collection[str]) -> str:
    """Return the reason to leave a folder alone that holds the state of a training at its last checkpoint."""
    return (
        f"it is the state of the training at the last of {_listed(checkpoints)}, and no checkpoint of its own: move it "
        "into that folder, which is then taken in with it"
    )


def _listed(companions: Collection[str]) -> str:
    shown = sorted(companions)[:_SHOWN]
    more = len(companions) - len(shown)
    names = ", ".join(map(escaped, shown))
    return f"{names}{f' and {more} more' if more else ''}"
