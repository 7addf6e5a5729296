"""Entrance of the ``aegate`` command."""

import typer

app = typer.Typer(name="aegate", help="DICOM Application Entities as Kubernetes resources.", no_args_is_help=True)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
