"""``flask ws asyncapi``: write the AsyncAPI document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from ..asyncapi.extension import EXTENSION, AsyncAPI, import_part
from ..exceptions import WSViewsError
from .application import application


@click.command("asyncapi")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write. By default the document is printed.",
)
@click.option(
    "--format",
    "as_format",
    type=click.Choice(["json", "yaml"]),
    help="By default taken from the file's extension, otherwise JSON.",
)
@click.option(
    "--version",
    "asyncapi_version",
    type=click.Choice(["3.0.0", "3.1.0"]),
    help="The AsyncAPI version. By default the one passed to AsyncAPI(app), otherwise 3.0.0.",
)
@click.option("--title", help="The title of the API.")
@with_appcontext
def asyncapi(
    output: Path | None, as_format: str | None, asyncapi_version: str | None, title: str | None
) -> None:
    """Write the AsyncAPI document of the application's WebSockets."""
    extension: AsyncAPI = application().extensions.get(EXTENSION) or AsyncAPI()
    given = {"asyncapi_version": asyncapi_version, "title": title}
    options = {**extension.options, **{key: value for key, value in given.items() if value}}
    is_yaml = as_format == "yaml" or (
        as_format is None and output is not None and output.suffix in (".yaml", ".yml")
    )
    try:
        document: dict[str, Any] = import_part("document").document(
            application(),
            **options,
        )
        writer = import_part("output")
        text: str = writer.to_yaml(document) if is_yaml else writer.to_json(document)
    except (WSViewsError, LookupError) as error:
        raise click.ClickException(str(error)) from error
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} can't be written: {error.strerror}") from error
