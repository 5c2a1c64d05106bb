"""Reads OTLP/HTTP JSON from standard input by the protobuf schema; unknown names and wrong types are errors.

Prints one JSON string a log record: its body. Usage: check.py DIRECTORY_OF_GENERATED_MODULES
"""
import json
import sys

sys.path.insert(0, sys.argv[1])
import logs_pb2  # noqa: E402
from google.protobuf import json_format  # noqa: E402

request = json_format.Parse(sys.stdin.buffer.read(), logs_pb2.ExportLogsServiceRequest(), ignore_unknown_fields=False)
for resource_logs in request.resource_logs:
    assert resource_logs.resource.attributes
    for scope_logs in resource_logs.scope_logs:
        for record in scope_logs.log_records:
            assert record.time_unix_nano and record.severity_number
            print(json.dumps(record.body.string_value))
