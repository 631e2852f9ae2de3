"""`python -m gptexp VERB ...` is `gptexp VERB ...`."""

from gptexp.cli import main

if __name__ == "__main__":
    main()
