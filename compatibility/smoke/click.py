"""A command with options, called by its test runner."""

import click
from click.testing import CliRunner


@click.command()
@click.argument("name")
@click.option("--count", type=click.IntRange(1, 5), default=1)
def hello(name, count):
    for _ in range(count):
        click.secho(f"hello {name}", fg="green")


run = CliRunner().invoke
all(
    (
        run(hello, ["you", "--count", "2"]).output == "hello you\nhello you\n",
        run(hello, ["you", "--count", "9"]).exit_code == 2,
        "--count" in run(hello, ["--help"]).output,
    )
)
