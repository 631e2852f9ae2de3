"""From prompts to answers: sampling, beam search, minimum Bayes risk decoding, streaming, fast decoders."""
