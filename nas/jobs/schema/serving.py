"""The serving section of a job file: how a language model is called where it is deployed (no torch)."""

from __future__ import annotations

from nas.jobs.schema.section import Section, positive, whole_number


class ServingConfig(Section):
    """The calls that time a language model, and the size of its cache of keys and values."""

    prompt_tokens: int | None = whole_number(1, 2**20, default=None, of="tokens")
    """The length of the prompt of `time_to_first_token_ms`, or of the source of a pair; None takes `data.max_tokens`, or the
    longest source."""
    context_tokens: int | None = whole_number(1, 2**20, default=None, of="tokens")
    """The tokens in the cache before a step of `time_per_token_ms`, also for `kv_cache_mib`; None takes those of the prompt, or
    half of a mean target."""
    batch: int | None = whole_number(1, 2**16, default=None, of="texts")
    """Texts at a time; None takes the batch of each profile."""
    expert_cache: int | None = whole_number(1, 2**10, default=None, of="experts")
    """The experts of each layer that are in memory, the others being loaded when a token is routed to them; None: all."""
    expert_cache_mib: float | None = positive(2**30, default=None, of="MiB")
    """The memory of all layers' experts that are in it, in place of `expert_cache`."""

    @property
    def caches_experts(self) -> bool:
        """True if only part of the experts is in memory."""
        return self.expert_cache is not None or self.expert_cache_mib is not None
