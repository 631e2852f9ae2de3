"""A small speech recognizer that measures how well a model's speech can be understood.

Convolutions and a recurrent layer over frames, characters by CTC (Graves et al. 2006). It is trained once for a token
store, on the recordings of the training split only, and kept beside the store.
"""

from itertools import groupby
from typing import Self

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gptexp.data.progress import track_progress
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.files import atomic_write
from gptexp.tasks.speech.audio import Audio
from gptexp.tasks.speech.spectrogram import LEVELS, MELS, log_mel, quantize

STEPS, BATCH_SIZE, LEARNING_RATE = 800, 16, 3e-3
WIDTH = 128


class Recognizer(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = nn.Sequential(
            nn.Conv1d(MELS, WIDTH, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 5, stride=2, padding=2),
            nn.GELU(),
        )
        self.rnn = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.ctc_head = nn.Linear(WIDTH, tokenizer.vocab_size)

    @classmethod
    def load_or_train(cls, store: TokenStore) -> Self:
        """Load the recognizer of a store, or train it now. The store's key covers this source file."""
        file = store.folder.parent.parent / "recognizers" / f"{store.folder.name}.pt"
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
        """Map levels [B, T, M] to log-probabilities of tokens [B, (T + 1) / 2, V]."""
        x = (frames.float() * (2 / (LEVELS - 1)) - 1).transpose(1, 2)
        x = self.encoder(x).transpose(1, 2)
        return self.ctc_head(self.rnn(x)[0]).log_softmax(dim=-1)

    @torch.inference_mode()
    def transcribe(self, recordings: list[Audio]) -> list[str]:
        """Return the text of each recording by greedy CTC decoding."""
        texts, blank = [], self.tokenizer.pad
        for audio in recordings:
            levels = torch.from_numpy(quantize(log_mel(audio)))
            best = self(levels[None])[0].argmax(dim=-1).tolist()
            texts.append(self.tokenizer.decode(t for t, _ in groupby(best) if t != blank))
        return texts

    def _train(self, store: TokenStore) -> None:
        tokens, index, features = (
            store.tokens("train"),
            store.index("train"),
            store.features("train"),
        )
        optimizer = torch.optim.AdamW(self.parameters(), LEARNING_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
        rng = np.random.default_rng(0)
        for _ in track_progress(range(STEPS), "training the recognizer", "steps", STEPS):
            levels, texts = [], []
            for entry in index[rng.integers(len(index), size=BATCH_SIZE)]:
                rows = features[entry["row"] : entry["row"] + entry["rows"]]
                levels.append(torch.from_numpy(rows.reshape(-1, MELS).astype(np.int16)))
                end = entry["offset"] + entry["length"] - 1  # voice sep text sep, or text sep
                prompt = tokens[entry["offset"] : end].astype(np.int64)
                separators = np.flatnonzero(prompt == store.tokenizer.sep)
                start = separators[-1] + 1 if len(separators) else 0
                texts.append(torch.from_numpy(prompt[start:]))
            frames = pad_sequence(levels, batch_first=True)
            frames = (frames + torch.randint(-1, 2, frames.shape)).clamp(0, LEVELS - 1)
            loss = F.ctc_loss(
                self(frames).transpose(0, 1),
                torch.cat(texts),
                torch.tensor([(len(rows) + 1) // 2 for rows in levels]),
                torch.tensor([len(text) for text in texts]),
                blank=store.tokenizer.pad,
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
