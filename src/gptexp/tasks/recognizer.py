"""A small recogniser that says what speech can be understood: it judges what a model speaks.

Convolutions and a recurrent layer over frames, letters by CTC (Graves et al. 2006). It is trained once for a store, on
the recordings of its training split, and kept; no recording of another split was ever heard.
"""

from itertools import groupby
from typing import Self

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gptexp.data import spectra
from gptexp.data.media import Sound
from gptexp.data.progress import track_progress
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.files import atomic_write

STEPS, BATCH, RATE = 800, 16, 3e-3
WIDTH = 128


class Recognizer(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.ears = nn.Sequential(
            nn.Conv1d(spectra.MELS, WIDTH, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 5, stride=2, padding=2),
            nn.GELU(),
        )
        self.memory = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.letters = nn.Linear(WIDTH, tokenizer.vocab_size)

    @classmethod
    def of(cls, store: TokenStore) -> Self:
        """The recogniser of a store: as it was kept, or trained now."""
        file = (
            store.folder.parent.parent / "recognisers" / f"{store.folder.name}.pt"
        )  # this source has a part in it
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"), torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            recognizer = cls(store.tokenizer)
            if not file.is_file():
                recognizer._train(store)
                with atomic_write(file) as temporary:
                    torch.save(recognizer.state_dict(), temporary)
        recognizer.load_state_dict(torch.load(file, weights_only=True))
        return recognizer.eval()

    def forward(self, frames: Tensor) -> Tensor:
        """Levels [B, T, M] -> log-probabilities of letters [B, (T + 1) / 2, V]."""
        x = self.ears((frames.float() * (2 / (spectra.LEVELS - 1)) - 1).transpose(1, 2)).transpose(
            1, 2
        )
        return self.letters(self.memory(x)[0]).log_softmax(dim=-1)

    @torch.inference_mode()
    def transcribe(self, sounds: list[Sound]) -> list[str]:
        """The likeliest text of each sound."""
        texts = []
        for sound in sounds:
            frames = torch.from_numpy(spectra.levels(spectra.log_mel(sound)))
            best = self(frames[None])[0].argmax(dim=-1).tolist()
            blank = self.tokenizer.pad
            texts.append(
                self.tokenizer.decode([letter for letter, _ in groupby(best) if letter != blank])
            )
        return texts

    def _train(self, store: TokenStore) -> None:
        tokens, index, features = (
            part("train") for part in (store.tokens, store.index, store.features)
        )
        optimizer = torch.optim.AdamW(self.parameters(), RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
        draw = np.random.default_rng(0)
        for _ in track_progress(range(STEPS), "training the recogniser", "steps", STEPS):
            sounds, texts = [], []
            for entry in index[draw.integers(len(index), size=BATCH)]:
                rows = features[entry["row"] : entry["row"] + entry["rows"]].reshape(
                    -1, spectra.MELS
                )
                sounds.append(torch.from_numpy(rows.astype(np.int16)))
                said = tokens[entry["offset"] : entry["offset"] + entry["length"]].astype(np.int64)
                *_, before, end = [
                    -1,
                    *np.flatnonzero(said == store.tokenizer.sep),
                ]  # voice sep text sep, or text sep
                texts.append(torch.from_numpy(said[before + 1 : end]))
            frames = pad_sequence(sounds, batch_first=True)
            frames = (frames + torch.randint(-1, 2, frames.shape)).clamp(0, spectra.LEVELS - 1)
            loss = F.ctc_loss(
                self(frames).transpose(0, 1),
                torch.cat(texts),
                torch.tensor([(len(sound) + 1) // 2 for sound in sounds]),
                torch.tensor([len(text) for text in texts]),
                blank=store.tokenizer.pad,
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
