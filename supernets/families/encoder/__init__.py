"""The family encoder: encoders of sentences, laid out as BERT."""
