"""Evaluation by lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness), of the extra `harness`."""
