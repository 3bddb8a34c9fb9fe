"""Lightning's own checkpointing, on files of a server."""

from pathlib import Path

import fsspec
import lightning
import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from holdfast.integrations.fsspec import HoldfastFileSystem
from tests.support.live import LiveServer


class Tiny(lightning.LightningModule):
    """A model whose loss falls in the epochs 0, 1 and 3, and rises in 2."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.seen_epochs: list[int] = []

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def on_train_epoch_end(self) -> None:
        self.seen_epochs.append(self.current_epoch)
        self.log("loss", [0.9, 0.5, 0.7, 0.1][self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(tmp_path: Path, directory: str, epochs: int, ckpt_path: str | None = None) -> tuple[Tiny, ModelCheckpoint]:
    callback = ModelCheckpoint(
        dirpath=f"holdfast://{directory}", filename="{epoch}", monitor="loss", save_top_k=2, save_last=True
    )
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    torch.manual_seed(0)
    model = Tiny()
    trainer.fit(model, DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2), ckpt_path=ckpt_path)
    return model, callback


def test_the_best_are_kept_and_training_goes_on(server: LiveServer, directory: str, tmp_path: Path):
    _, callback = trained(tmp_path, directory, 3)
    assert sorted(server.names(directory)) == ["epoch=1.ckpt", "epoch=2.ckpt", "last.ckpt"]
    assert callback.best_model_path == f"holdfast://{directory}/epoch=1.ckpt"

    model, callback = trained(tmp_path, directory, 4, ckpt_path=f"holdfast://{directory}/last.ckpt")
    assert model.seen_epochs == [3]
    assert callback.best_model_path == f"holdfast://{directory}/epoch=3.ckpt"
    assert sorted(server.names(directory)) == ["epoch=1.ckpt", "epoch=3.ckpt", "last.ckpt"]
    with HoldfastFileSystem().open(callback.best_model_path) as file:
        weights = torch.load(file, weights_only=False)["state_dict"]
    assert weights["layer.weight"].equal(model.layer.weight)
    assert list(tmp_path.rglob("*.ckpt")) == [], "something was saved on this machine"


def test_a_checkpoint_that_is_not_there_is_named(directory: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        trained(tmp_path, directory, 1, ckpt_path=f"holdfast://{directory}/none.ckpt")


def test_a_server_that_is_away_is_not_a_missing_checkpoint(own_server: LiveServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOLDFAST_URL", own_server.url)
    monkeypatch.setitem(fsspec.config.conf, "holdfast", {"patience_s": 0})
    own_server.kill()
    with pytest.raises(ConnectionError):
        TorchCheckpointIO().load_checkpoint("holdfast://runs/a/last.ckpt")
