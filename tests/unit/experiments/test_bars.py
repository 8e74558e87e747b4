"""Models that are trained side by side report their progress to one display."""

from tiedlm.experiments import parallel
from tiedlm.progress import Watcher


class Sent(list):
    """Takes the place of a channel."""

    def send(self, kind, *values):
        self.append((kind, *values))


def test_at_the_end_of_an_epoch_all_of_its_words_are_reported(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(parallel.time, "monotonic", lambda: now[0])
    sent = Sent()
    watcher: Watcher = parallel._Remote(sent)
    watcher.start("run", 500, 0)
    for _ in range(5):
        now[0] += 0.15
        watcher.step(100, 1, 1, 9.0)
    watcher.epoch_end("epoch 1", 8.0)
    assert sent[1:] == [
        ("step", 200, 1, 1, 9.0), ("step", 200, 1, 1, 9.0), ("step", 100, 1, 1, 9.0),
        ("epoch_end", "epoch 1", 8.0),
    ]  # fmt: skip
