from conftest import likeness

from gptexp.checkpoints.load_model import load_run
from gptexp.run import run
from gptexp.runs.weights_and_biases import Wandb


def test_histograms_of_all_gradients_change_nothing_about_the_training(translation, monkeypatch):
    logged = {}
    monkeypatch.setattr(
        Wandb, "log_histograms", lambda _, step, values: logged.update({step: values})
    )
    words = ["trainer.max_steps=8"]
    plain = run(translation(*words))
    folder = run(translation(*words, "logger=wandb", "logger.histograms_every=4", "outputs=other"))
    assert likeness(folder) == likeness(plain)
    assert list(logged) == [4, 8]
    for histograms in logged.values():
        sizes = {name: counts.sum() for name, (counts, _) in histograms.items()}
        parameters = load_run(folder)[0].named_parameters()
        assert sizes == {f"gradients/{name}": value.numel() for name, value in parameters}
        assert all(len(edges) == len(counts) + 1 for counts, edges in histograms.values())
