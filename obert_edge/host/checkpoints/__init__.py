"""Reading a model folder that somebody else wrote: weights, configs, tokenizer files and scales."""
