def test_saves_and_finds(server, directory):
    server.save(directory, b"abc", epoch=1, metric=0.3)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]
