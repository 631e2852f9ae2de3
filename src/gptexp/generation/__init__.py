"""From a prompt to an answer: sampling, beam search, minimum Bayes risk, streaming, the fast CPU decoder."""
