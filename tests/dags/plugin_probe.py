"""What Airflow's plugin loader makes of a plugins folder, as JSON: run in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow import plugins_manager


def main(result: Path) -> None:
    plugins_manager.ensure_plugins_loaded()
    folder = Path(os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    files = {name: Path(getattr(module, "__file__", None) or "/") for name, module in list(sys.modules.items())}
    found = {
        "plugins": sorted(plugin["name"] for plugin in plugins_manager.get_plugin_info()),
        "errors": plugins_manager.get_import_errors(),
        "modules": {name: str(path.relative_to(folder)) for name, path in files.items() if path.is_relative_to(folder)},
    }
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
