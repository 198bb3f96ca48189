"""The init container of docker-compose.yaml: load the sample and set the Variables known only after seeding."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass

from local import config, seed
from local.servers import Servers

PREFIX = "cohort_flywheel_"


@dataclass(frozen=True)
class Containers(Servers):
    """The three servers, one container each; their addresses come from Airflow's connections."""

    @property
    def gremlin_url(self) -> str:
        graph = json.loads(os.environ["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
        return f"{graph['schema']}://{graph['host']}:{graph['port']}/gremlin"

    @property
    def dynamodb_url(self) -> str:
        return str(_aws()["service_config"]["dynamodb"]["endpoint_url"])

    @property
    def aws_url(self) -> str:
        return str(_aws()["endpoint_url"])


def _aws() -> dict[str, dict[str, dict[str, str]]]:
    extra: dict[str, dict[str, dict[str, str]]] = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]
    return extra


def variables(seeded: seed.Seeded) -> dict[str, str]:
    """The settings that are known only after seeding, as Airflow Variables."""
    return {
        f"{PREFIX}pinpoint_application_id": seeded.application_id,
        f"{PREFIX}pinpoint_import_role_arn": seeded.role_arn,
        f"{PREFIX}ses_contact_list": config.CONTACT_LIST,
        f"{PREFIX}ses_topic": config.TOPIC,
        f"{PREFIX}customer_profiles_domain": config.PROFILES_DOMAIN,
        f"{PREFIX}connect_instance_id": seeded.connect_instance_id,
        f"{PREFIX}qconnect_knowledge_base_id": seeded.knowledge_base_id,
        f"{PREFIX}unsubscribe_url": config.UNSUBSCRIBE_URL,
    }


def main() -> None:
    settings = config.load()
    servers = Containers(settings.gremlin_port, settings.dynamodb_port, settings.aws_port)
    for name, value in variables(seed.seed(servers, settings)).items():
        subprocess.run(["airflow", "variables", "set", name, value], check=True)
    print("The sample is loaded and the Airflow Variables are set.")


if __name__ == "__main__":
    main()
