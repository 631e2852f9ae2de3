"""gptexp: experiments with GPT-style Transformers. `python -m gptexp.run --help` is the way in."""

__version__ = "0.1.0"
