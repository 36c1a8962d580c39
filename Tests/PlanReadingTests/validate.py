"""Validates YAML documents against a JSON Schema: validate.py SCHEMA FILE... prints one line a document: path, tab, verdict.
@LIST in place of files is a file with a path a line. A .json file is read as JSON.

Scalars are resolved as in the core schema of YAML 1.2, as editors do it, not as PyYAML's YAML 1.1.
"""
import json
import re
import sys

import jsonschema
import yaml


class Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}


for tag, expression, first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{expression})$"), list(first))
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("0o", ""), 10)
                       if not node.value.startswith("0x") else int(node.value, 16))

schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
paths = sys.argv[2:]
if paths and paths[0].startswith("@"):
    paths = open(paths[0][1:]).read().splitlines()
for path in paths:
    try:
        with open(path, "rb") as file:
            document = json.load(file) if path.endswith(".json") else yaml.load(file.read(), Loader)
        fault = next(iter(validator.iter_errors(document)), None)
        verdict = "valid" if fault is None else "fault: " + fault.message.replace("\n", " ")[:200]
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        verdict = "not YAML: " + str(error).replace("\n", " ")[:100]
    print(path, verdict, sep="\t")
