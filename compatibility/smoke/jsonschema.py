"""A document against a schema with references."""

from jsonschema import Draft202012Validator, validate

schema = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#"}},
    "additionalProperties": False,
}
validate({"name": "a", "next": {"name": "b"}}, schema)
errors = list(Draft202012Validator(schema).iter_errors({"next": {"name": 3}, "other": 1}))
all((sorted(error.validator for error in errors) == ["additionalProperties", "required", "type"],))
