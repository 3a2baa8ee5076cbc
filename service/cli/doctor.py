"""`encserve doctor`: what is wrong with this machine, its settings or its store, and the remedy."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.cli.common import Store, app, examples, settings_of

MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "bold red")}


@app.command(epilog=examples("encserve doctor", "encserve doctor --json"))
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model_store: Store = None,
) -> None:
    """Look at machine, packages, settings and store; say what is wrong, and how to mend it.

    Exit status 1 if anything is wrong; notes are no faults.
    """
    from service.diagnosis import diagnose

    findings = list(diagnose(settings_of(model_store=model_store)))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            mark, style = MARKS[finding.state]
            said = f" {finding.subject}: {finding.found}"
            console.print(Text.assemble((f"{mark:>5}", style), said))
            if finding.remedy:
                console.print(Text(f"       -> {finding.remedy}"))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)
