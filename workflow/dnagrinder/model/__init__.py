"""The language model: configuration, tokenizer, encoder, heads, checkpoints."""
