"""From prompts to answers: sampling, beam search, minimum Bayes risk decoding, streaming, a fast CPU decoder."""
