"""``python -m tests.docs.report``: the numbers of the blocks of the documentation by what tests do with them."""

from __future__ import annotations

from collections import Counter

from tests.docs.blocks import Use, pages


def report() -> str:
    """A line for each use, then the blocks that are not executed with their reasons."""
    blocks = [block for page in pages() for block in page.blocks if not block.hidden]
    counts = Counter(block.use for block in blocks)
    lines = [f"{counts[use]:4} {use}" for use in Use]
    reasons = Counter(block.reason for block in blocks if block.reason)
    lines += [f"     {n:4} {reason}" for reason, n in reasons.most_common()]
    return "\n".join([f"{len(blocks)} code blocks in {len(pages())} pages:", *lines])


if __name__ == "__main__":
    print(report())
