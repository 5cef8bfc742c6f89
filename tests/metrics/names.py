"""Compares the names that dashboard, alert rules and documents use with what a running program tells.

    names.py SOURCE URL SECRET...      none of the secrets may stand in the metrics
"""

import re
import sys
import urllib.request
from pathlib import Path

# What the controller of a cluster alone tells, what is told where traces are (tests/traces), and where an authority is
# asked for a certificate (tests/acme).
ELSEWHERE = {"cubicle_controller_reconciles", "cubicle_controller_leads",
             "cubicle_certificate_end_timestamp_seconds", "cubicle_certificate_orders",
             *(f"cubicle_{process}_trace_spans" for process in ("hub", "engine", "controller"))}
SUFFIX = re.compile(r"_(total|bucket|sum|count|info)$")
SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$")


def base(name: str) -> str:
    return SUFFIX.sub("", name)


def main() -> None:
    source, url, *secrets = sys.argv[1:]
    with urllib.request.urlopen(url, timeout=10) as answer:
        kind, text = answer.headers["content-type"], answer.read().decode()
    wrong = []

    def check(truth: bool, what: str) -> None:
        print("ok    " if truth else "NOT OK", what)
        if not truth:
            wrong.append(what)

    check(kind.startswith("application/openmetrics-text"), f"the type is {kind}")
    check(text.endswith("# EOF\n"), "the text has its end")
    told = {base(line.split()[2]) for line in text.splitlines() if line.startswith("# TYPE ")}
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            if found := SAMPLE.match(line):
                samples[found[1] + (found[2] or "")] = float(found[3])
            else:
                check(False, f"a line that is no sample: {line}")
    asked = {}
    for name in ("charts/cubicle/monitoring/dashboard.json", "charts/cubicle/monitoring/alerts.yaml", "docs/metrics.md"):
        found = {base(one) for one in re.findall(r"\bcubicle_[a-z_]+", Path(source, name).read_text())}
        asked[name] = found
        check(found and not found - told - ELSEWHERE, f"{name}: {len(found)} metrics, all told; missing: {sorted(found - told - ELSEWHERE)}")
    check(told <= asked["docs/metrics.md"], f"all {len(told)} are documented; missing: {sorted(told - asked['docs/metrics.md'])}")
    for name, least in {
        'cubicle_launches_total{outcome="open"}': 1,
        'cubicle_launch_step_seconds_count{step="prove"}': 1,
        'cubicle_proof_seconds_count{phase="later"}': 1,
        'cubicle_verdicts_total{guarantee="network.internet",verdict="held"}': 2,
        'cubicle_ready{part="engine"}': 1,
        'cubicle_workspaces{state="running"}': 1,
    }.items():
        check(samples.get(name, 0) >= least, f"{name} is {samples.get(name)}")
    check(not [one for one in secrets if one in text], "no name and no id stands in them")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
