"""All workloads: those of each file of this folder that has `WORKLOAD` or `WORKLOADS`."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence

import benchmarks.workloads
from benchmarks.workloads.workload import Workload
from meta_train.errors import MetaTrainError


def discovered() -> tuple[dict[str, Workload], dict[str, ImportError]]:
    """Workloads by name, and why files could not be imported, by the names of the files."""
    found: dict[str, Workload] = {}
    failed: dict[str, ImportError] = {}
    package = benchmarks.workloads
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("__"):
            continue
        try:
            module = importlib.import_module(f"{package.__name__}.{info.name}")
        except ImportError as error:
            failed[info.name] = error
            continue
        single = getattr(module, "WORKLOAD", None)
        for workload in getattr(module, "WORKLOADS", [single] if single else []):
            if workload.name in found:
                raise MetaTrainError(
                    f"there are two workloads called `{workload.name}`, one in {info.name}.py.\n"
                    "  Give one of them another name."
                )
            found[workload.name] = workload
    return found, failed


def chosen(
    names: Sequence[str], found: Mapping[str, Workload], failed: Mapping[str, ImportError]
) -> list[Workload]:
    """Those of some names, or all of them.

    Raises:
        MetaTrainError: if there is no workload of that name, or its file cannot be imported.
    """
    for name in names:
        if name in found:
            continue
        if name in failed:
            raise MetaTrainError(
                f"the workload `{name}` needs a package that is missing: {failed[name]}.\n"
                '  Install it, with `pip install "ngopt[workloads]"` for example.'
            ) from failed[name]
        missing = "".join(f"\n  {file}.py cannot be read: {why}." for file, why in failed.items())
        raise MetaTrainError(
            f"there is no workload `{name}`.\n  Choose from {', '.join(sorted(found))}.{missing}"
        )
    return [found[name] for name in names] if names else list(found.values())
