"""The runner of pages notices what is wrong with a block."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import JobError
from tests.docs.blocks import Use, read
from tests.docs.commands import problem_of
from tests.docs.page_runner import BlockError, PageRunner

PAGE = """\
# A page

<!-- needs: trained -->
<!-- before:
touch made
-->

```bash
test -f made
export WORD=seen
```

```python title="lines.py"
print("a line")
```

```bash
test "$WORD" = seen
python lines.py | grep line
```

<!-- into: job.yaml -->
```yaml
objectives: [accuracy]
constraints: {latency_ms: {max: 1.0}}
```

```python
n = 2
```

```python
import yaml
assert n == 2
assert yaml.safe_load(open("job.yaml"))["objectives"] == ["accuracy"]
```

<!-- no-run: needs a board -->
```bash
false
```
"""


def run(folder: Path, text: str) -> None:
    path = folder / "page.md"
    path.write_text(text)
    with PageRunner(folder) as runner:
        runner.run_page(read(path))


def test_blocks_share_a_folder_an_environment_and_a_namespace(tmp_path: Path) -> None:
    run(tmp_path, PAGE)
    page = read(tmp_path / "page.md")
    assert page.needs == {"trained"}
    assert [block.use for block in page.blocks if not block.hidden] == [
        Use.EXECUTED, Use.FILE, Use.EXECUTED, Use.JOB_KEYS, Use.EXECUTED, Use.EXECUTED, Use.NOT_RUN,
    ]  # fmt: skip
    assert page.blocks[-1].reason == "needs a board"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```bash\nfalse\n```\n", BlockError),
        ("```bash\nfalse | true\n```\n", BlockError),
        ("```python\nassert 1 == 2\n```\n", BlockError),
        ("```python\nraise SystemExit(3)\n```\n", BlockError),
        ("```yaml\nobjectivs: [accuracy]\n```\n", JobError),
        ("```ruby\nputs 1\n```\n", BlockError),
        ("```\nnas search\n```\n", ValueError),
        ("```bash\nnas search\n", ValueError),
        ("<!-- no-run: lost -->\nNo block.\n", ValueError),
    ],
)
def test_a_wrong_block_fails(tmp_path: Path, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(tmp_path, text)


def test_commands_are_checked_against_the_command_line() -> None:
    assert problem_of("search digits-cnn.yaml --inline") == ""
    assert problem_of("profiles") == ""
    assert problem_of("serch digits-cnn.yaml") != ""
    assert problem_of("search digits-cnn.yaml --in-line") != ""
    assert problem_of("token make alice --runs runs") == ""
