"""Parses a file of X-ARF reports, one a line, by the xarf package; prints what each is of. Any error or warning fails."""

import json
import sys

import xarf

for line in open(sys.argv[1], encoding="utf-8"):
    result = xarf.parse(json.loads(line))
    if result.report is None or result.errors or result.warnings:
        sys.exit(f"{result.errors} {result.warnings}: {line}")
    report = result.report
    print(report.source_identifier, report.source_port, report.category, report.type, report.service)
