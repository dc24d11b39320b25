"""Tokenizer training, corpus, masking and pretraining."""
