"""Captures any torch module as data: its operations, its tensors, and the axes that its dimensions share."""
