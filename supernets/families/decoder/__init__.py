"""The family decoder: language models, laid out as Llama or GPT-2."""
