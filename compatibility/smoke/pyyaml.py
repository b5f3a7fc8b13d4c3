"""Documents read and written, with the C parser and without."""

import yaml

text = "a: &x [1, 2.5, yes]\nb: *x\nc: !!binary aGk=\nd: 2024-01-02\n"
fast = yaml.load(text, yaml.CSafeLoader)
all(
    (
        fast == yaml.safe_load(text),
        fast["b"] == [1, 2.5, True],
        fast["c"] == b"hi",
        yaml.safe_load(yaml.dump(fast, Dumper=yaml.CSafeDumper)) == fast,
    )
)
