"""The keys of findings in `nas doctor --json`."""

from __future__ import annotations

import json

from nas.cli.doctor_checks.finding import warning


def test_scripts_read_findings_by_these_keys() -> None:
    finding = warning("disk", "1.0 GiB free at /runs", "free some")
    assert json.loads(json.dumps(finding.to_json())) == {
        "check": "disk",
        "state": "warning",
        "found": "1.0 GiB free at /runs",
        "remedy": "free some",
    }
