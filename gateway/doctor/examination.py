"""The examination: every part in turn, as far as the parts before it let it be looked at."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway import config
from gateway.config import ConfigError, Settings
from gateway.doctor import configuration, database, issuers, machine, nonces, outside, replicas, routes, upstreams
from gateway.doctor.finding import FAULT, Finding, Report
from gateway.faults import OperatorError
from gateway.resources import engine
from gateway.supervisor import embedded
from gateway.supervisor.users import owner_of, system_user_for

_NOT_SERVING: Final = "no gateway serves with this file now"


async def examine(path: Path, *, through: tuple[str, int] | None = None) -> Report:
    """Look at the installation whose configuration is at `path`.

    `through` is where public_url is reached, for a machine that cannot do so by its name.
    """
    report = Report()
    try:
        settings = config.load(path)
    except ConfigError as exc:
        report.add(configuration.faults_of(exc))
        report.left_out["everything else"] = "the configuration is faulty"
        return report
    report.facts["engine"] = engine()
    report.facts["configuration"] = f"{settings.path}: valid"
    report.add(configuration.findings(settings))
    report.add(routes.findings(settings))
    try:
        serving = await asyncio.to_thread(machine.find_serving, settings)
    except OperatorError as exc:
        report.findings.append(Finding.of(exc, "what it does cannot be looked at from here", about="gateway"))
        return report
    report.facts["gateway"] = "not running" if serving is None else f"process {serving.pid}"
    report.add(await asyncio.to_thread(lambda: [*machine.findings(settings, serving)]))
    apart = dict[str, float]()
    await _look_at_database(settings, report, apart, serving=serving is not None)
    report.add(await asyncio.to_thread(lambda: [*upstreams.findings(settings, apart)]))
    report.facts["upstreams"] = str(sum(len(route.upstreams) for route in settings.config.routes))
    if settings.config.issuers:
        report.add(await issuers.findings(settings, apart))
        report.facts["issuers"] = str(len(settings.config.issuers))
    if serving is None or settings.keyring is None:
        report.left_out["server.public_url"] = _NOT_SERVING
    else:
        report.facts["public_url"] = settings.config.server.public_url
        report.add(await asyncio.to_thread(lambda: [*outside.findings(settings, through, apart)]))
    report.add(machine.clock_findings(settings, apart))
    report.findings.sort(key=lambda finding: finding.level != FAULT)
    return report


async def _look_at_database(settings: Settings, report: Report, apart: dict[str, float], *, serving: bool) -> None:
    try:
        if settings.database_url is None and _is_to_be_made(settings):
            report.left_out["database.url"] = "the first start makes the embedded database"
            return
        async with _dsn(settings) as dsn:
            await database.findings(settings, dsn, report, apart, serving=serving)
            await nonces.findings(settings, dsn, report)
            if settings.replicas:
                await replicas.findings(settings, dsn, report)
    except OperatorError as exc:
        report.findings.append(Finding.of(exc, "the gateway does not start, or answers 503"))


def _is_to_be_made(settings: Settings) -> bool:
    """Whether there is no embedded database yet. Raises OperatorError where that cannot be seen."""
    if os.geteuid() != 0:  # root sees everything, and has an account made where it asks for the database's user
        system_user_for(settings.data_dir)
    return owner_of(settings.data_dir / "postgres") is None


@asynccontextmanager
async def _dsn(settings: Settings) -> AsyncIterator[str]:
    """The database as it is: never made, never migrated; an embedded one that stands still is started for the look."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with embedded.running(settings.data_dir, user=settings.config.server.user) as dsn:
        yield dsn
