"""Reads reports in Shadowserver's columns by IntelMQ's own parser, and prints one event a line.

The mapping is the one that Shadowserver publishes for these reports, cut down to the columns that ours fill, and ours for relays.
"""

import json
import os
import sys
import tempfile

from intelmq.bots.parsers.shadowserver import _config as config
from intelmq.bots.parsers.shadowserver.parser import ShadowserverParserBot
from intelmq.lib.bot import BotLibSettings
from intelmq.lib.message import Report

REQUIRED = [
    ["time.source", "timestamp", "add_UTC_to_timestamp"],
    ["source.ip", "ip", "validate_ip"],
    ["source.port", "port", "convert_int"],
]
OPTIONAL = [
    ["extra.", "severity", "validate_to_none"],
    ["protocol.transport", "protocol"],
    ["source.reverse_dns", "hostname"],
    ["extra.", "tag", "validate_to_none"],
    ["source.asn", "asn", "invalidate_zero"],
    ["source.geolocation.cc", "geo"],
    ["source.geolocation.region", "region"],
    ["source.geolocation.city", "city"],
    ["extra.source.naics", "naics", "invalidate_zero"],
    ["extra.", "hostname_source", "validate_to_none"],
    ["extra.source.sector", "sector", "validate_to_none"],
]
HTTP = [
    ["extra.", column, "validate_to_none"]
    for column in (
        "http http_code http_reason content_type connection proxy_authenticate via server "
        "content_length transfer_encoding http_date"
    ).split()
]
FEEDS = {
    "scan_http_proxy": ("Open-HTTP-Proxy", "open-http-proxy", HTTP),
    "scan_socks": ("Accessible-SOCKS4/5-Proxy", "open-socks", []),
    "scan_smtp_relay": ("Open-SMTP-Relay", "open-smtp", [["extra.", "banner", "validate_to_none"]]),
    "scan_open_proxy": ("Open-Proxy", "open-proxy", []),
}


def feed(file_name, name, identifier, more):
    return {
        "feed_name": name,
        "file_name": file_name,
        "constant_fields": {
            "classification.identifier": identifier,
            "classification.taxonomy": "vulnerable",
            "classification.type": "vulnerable-system",
        },
        "required_fields": REQUIRED,
        "optional_fields": OPTIONAL + more,
    }


with tempfile.NamedTemporaryFile("w", suffix=".json") as schema:
    json.dump({key: feed(key, *of) for key, of in FEEDS.items()}, schema)
    schema.flush()
    paths = vars(config)["__config"]
    paths.schema_file = paths.schema_active = schema.name
    bot = ShadowserverParserBot("shadowserver", settings={**BotLibSettings, "logging_level": "ERROR"})
    for name in sorted(os.listdir(sys.argv[1])):
        report = Report()
        report.add("extra.file_name", name)
        report.add("feed.name", "ajar")
        with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
            report.add("raw", file.read())
        queues = bot.process_message(report)
        if queues["error"]:
            sys.exit(f"{name}: {queues['error']}")
        for event in queues["output"]:
            print(
                event["source.ip"],
                event["source.port"],
                event["classification.identifier"],
                event["protocol.transport"],
                event["extra.severity"],
            )
