"""The commands of the local servers: `python -m local --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from local import config, java, sample, servers
from local.config import LocalError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; print a LocalError as one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m local", description="Local servers, the demo, the bundle and its deployment."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int | None], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(function=function)
        return made

    command("fetch", lambda args: java.fetch(), "fetch the jars of the servers into .cache")
    command("lock-jars", lambda args: java.lock_jars(), "rewrite local/jars after a version change")
    new_command = command(
        "new-cohort",
        lambda args: new_cohort(args.name, args.description, args.snapshot, args.percent),
        "propose an entry of include/cohorts.yaml, from a snapshot or from answers",
    )
    new_command.add_argument("--name", default="", help="of the cohort")
    new_command.add_argument("--description", default="", help="which players they are")
    new_command.add_argument("--snapshot", type=Path, help="a snapshot, downloaded from the state bucket")
    new_command.add_argument("--percent", type=float, default=5, help="of the players, at most; default 5")
    command("demo", lambda args: demo(), "run the daily DAG once on local servers and print the results")
    command(
        "flywheel",
        lambda args: flywheel(),
        "mail a cohort on local servers, and make one of those who clicked; print and check the figures",
    )
    up_command = command(
        "up",
        lambda args: up(args.run_dir, args.dags, args.database_url, with_history=not args.without_history),
        "start the servers and a real Airflow, seeded",
    )
    up_command.add_argument("--dags", type=Path, default=config.ROOT / "dags", help="another folder of DAG files")
    up_command.add_argument("--database-url", help="the metadata database, not SQLite")
    up_command.add_argument("--without-history", action="store_true", help="no made-up results of past days")
    down_command = command("down", lambda args: down(args.run_dir), "stop what `up` started")
    for each in (up_command, down_command):
        each.add_argument(
            "--run-dir", type=Path, default=config.RUN_DIR, help="folder of logs and pid files, default .local"
        )
    bundle_command = command(
        "bundle",
        lambda args: build_bundle(args.folder, args.into, args.requirements, args.wheels),
        "build the files that Amazon MWAA takes into build/",
    )
    bundle_command.add_argument("--into", type=Path, help="an existing plugins.zip to merge a copy of ours into")
    bundle_command.add_argument("--requirements", type=Path, help="another's requirements.txt, likewise")
    bundle_command.add_argument("--wheels", metavar="AIRFLOW_VERSION", help="for a web server without internet")
    deploy_command = command(
        "deploy",
        lambda args: deploy_bundle(args.folder, args.bucket, args.environment, args.prefix),
        "upload build/ to the bucket of an MWAA environment",
    )
    deploy_command.add_argument("--bucket", required=True)
    deploy_command.add_argument("--environment", help="the MWAA environment to update")
    deploy_command.add_argument("--prefix", default="", help="key prefix in the bucket")
    for each in (bundle_command, deploy_command):
        each.add_argument(
            "--folder", type=Path, default=config.ROOT / "build", help="the folder of the bundle, default build/"
        )
    stack_command = command(
        "stack",
        lambda args: deploy_stack(args.modeler, args.name, args.parameters, args.go),
        "create or update our CloudFormation stack next to the Cohort Modeler's",
    )
    stack_command.add_argument("--modeler", required=True, help="the name of the Cohort Modeler's stack")
    stack_command.add_argument("--name", required=True, help="the name of our stack")
    stack_command.add_argument(
        "--go", action="store_true", help="create or update the stack; without it, only print the parameters"
    )
    stack_command.add_argument("parameters", nargs="*", metavar="PARAMETER=value", help="of the template")
    command(
        "test-needs", lambda args: test_needs(), "list the tests that are skipped here, and the tools that they need"
    )
    command("servers", lambda args: start(), "start the servers, seeded; addresses go to .local/servers.env")
    command("servers-down", lambda args: stop(), "stop what `servers` started")
    command(
        "sample", lambda args: sample.write(args.folder), "write the sample players' files into a folder"
    ).add_argument("folder", type=Path)

    command(
        "explain",
        lambda args: explain(args.run),
        "say what happened to the player of standard input in a run, with your own AWS credentials",
    ).add_argument(
        "run", help="the name of a run, as in ea_atrisk_2_2026-11-22_00-00-00, or a date for all of its runs"
    )
    command(
        "export",
        lambda args: export(),
        "print all that is stored of the player of standard input, as JSON, with your own AWS credentials",
    )

    pinpoint_command = command(
        "pinpoint-events",
        lambda args: import_pinpoint_events(args.folder, args.into),
        "count the e-mail events of Pinpoint's event stream once, from a folder of its objects",
    )
    pinpoint_command.add_argument("folder", type=Path, help="the objects, as JSON or Parquet")
    pinpoint_command.add_argument("--into", type=Path, required=True, help="the folder of the results")

    graph_files_command = command(
        "graph-files",
        lambda args: write_graph_files(args.folder, args.players, args.seed, args.gzip),
        "write the Cohort Modeler's seven files for any number of players into a folder",
    )
    graph_files_command.add_argument("folder", type=Path)
    graph_files_command.add_argument("--players", type=int, required=True, help="how many players")
    graph_files_command.add_argument("--seed", type=int, default=sample.SEED, help="the same seed gives the same files")
    graph_files_command.add_argument("--gzip", action="store_true", help="write .csv.gz files")

    parsed = parser.parse_args(arguments)
    try:
        return parsed.function(parsed) or 0
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1


def start() -> None:
    """Start the three servers and seed them."""
    from local.seed import seed  # importing boto3 is slow, and the other commands do not need it

    settings = config.load()
    addresses = servers.start_detached(settings)
    seeded = seed(addresses, settings)
    file = servers.write_environment(servers.airflow_environment(addresses, settings, *seeded))
    print(f"Gremlin Server   {addresses.gremlin_url}")
    print(f"DynamoDB Local   {addresses.dynamodb_url}")
    print(f"AWS endpoint     {addresses.aws_url}")
    print(f"For a shell:     . {file.relative_to(config.ROOT)}")


def new_cohort(name: str, description: str, snapshot: Path | None, percent: float) -> None:
    """Print the entry of a new cohort."""
    from local import new_cohort

    new_cohort.new_cohort(name, description, snapshot, percent)


def demo() -> int:
    """Run the demo."""
    from local import demo

    return demo.main()


def flywheel() -> int:
    """Run the three days of the flywheel."""
    from local import flywheel

    return flywheel.main()


def up(run_dir: Path, dags: Path, database_url: str | None, *, with_history: bool) -> None:
    """Start the servers and Airflow."""
    from local import up

    up.up(run_dir.resolve(), dags.resolve(), database_url, with_history=with_history)


def down(run_dir: Path) -> None:
    """Stop the servers and Airflow."""
    from local import up

    up.down(run_dir.resolve())


def build_bundle(folder: Path, into: Path | None, requirements: Path | None, wheels: str | None) -> None:
    """Build the bundle and print its size and digest."""
    from local import bundle

    bundle.build(folder, into=into, their_requirements=requirements, wheels_for=wheels)
    packed = bundle.read(folder / bundle.PLUGINS)
    print(f"{folder.name}/{bundle.PLUGINS}: {len(packed) / 1e6:.1f} MB, SHA-256 {bundle.digest(packed)}")


def deploy_bundle(folder: Path, bucket: str, environment: str | None, prefix: str) -> None:
    """Upload the bundle."""
    from local import deploy

    if not bucket:
        raise config.LocalError("Which bucket? Write make deploy BUCKET=the-environment's-bucket.")
    deploy.deploy(bucket, environment=environment, prefix=prefix, folder=folder)


def deploy_stack(modeler: str, name: str, parameters: list[str], go: bool) -> None:
    """Create or update the stack."""
    from local import stack

    if not modeler or not name:
        raise config.LocalError("Which stacks? Write make stack MODELER=the-cohort-modelers NAME=ours.")
    pairs = [each.partition("=") for each in parameters]
    if odd := [key for key, equals, _ in pairs if not equals]:
        raise config.LocalError(f"{odd[0]} has no value: write {odd[0]}=value.")
    stack.stack(modeler, name, {key: value for key, _, value in pairs}, go=go)


def write_graph_files(folder: Path, players: int, seed: int, compress: bool) -> None:
    """Write the files and print their size."""
    from local import graph_files

    graph_files.write(folder, players, seed, compress=compress)
    size = sum(path.stat().st_size for path in folder.glob("*.csv*"))
    print(f"{folder}: {players:,} players, {size / 1e6:,.1f} MB")


def explain(run: str) -> None:
    from local.support import explain_command

    explain_command(run)


def export() -> None:
    from local.player_export import export_command

    export_command()


def import_pinpoint_events(folder: Path, into: Path) -> None:
    from local.pinpoint_events import pinpoint_events_command

    pinpoint_events_command(folder, into)


def test_needs() -> None:
    """Print which tests need a tool that is not on PyPI and not installed."""
    for tool, tests in {
        "chromium": "the DAG's form in a browser (tests/e2e, marked browser)",
        "docker-compose": "docker-compose.yaml as docker-compose parses it (tests/test_docker_compose.py)",
        "postgresql": "backfills on a real scheduler and its database (tests/backfill); tests/e2e runs on SQLite",
    }.items():
        if not (config.postgresql() if tool == "postgresql" else config.works(tool)):
            print(f"Skipped because {tool} is missing: {tests}. To run them: apt-get install {tool}")


def stop() -> None:
    """Stop the three servers."""
    stopped = servers.stop_detached()
    print(f"Stopped {', '.join(stopped)}." if stopped else "No server was running.")


if __name__ == "__main__":
    sys.exit(main())
