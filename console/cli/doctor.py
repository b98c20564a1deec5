"""`showcaller doctor`: what is missing on this machine and how to get it."""

from console.cli import context, output
from console.cli.context import Json


def doctor(json: Json = False) -> int:
    """What is missing on this machine, and how to get it. Exit code 1 only when no stage could run."""
    from console.core.checks import run_checks

    checks = run_checks(context.home())
    if json:
        output.print_json(
            [
                {"name": c.name, "ok": c.ok, "found": c.found, "fix": c.fix or None, "needed": c.needed}
                for c in checks
            ]
        )
    else:
        output.print_table(
            ("check", "", "found"),
            [(c.name, "ok" if c.ok else "MISSING" if c.fatal else "note", c.found) for c in checks],
        )
        todo = [c for c in checks if not c.ok and c.fix]
        if todo:
            print()
        for check in todo:
            print(f"{check.name}: {check.fix}.")
    return 1 if any(check.fatal for check in checks) else 0
