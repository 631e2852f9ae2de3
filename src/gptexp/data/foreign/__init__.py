"""Token files of other programs: nanoGPT, llm.c, Megatron, datatrove, OLMo."""
