"""The databases that nonces are spread over: whether those that are named are those that nonces are put into."""

from gateway.config import Settings
from gateway.doctor.finding import WARNING, Finding, Report
from gateway.faults import OperatorError
from gateway.store import spreading


async def findings(settings: Settings, dsn: str, report: Report) -> None:
    """Add to the report what is wrong with the further databases of nonces; `dsn` leads to the main one."""
    try:
        found = await spreading.look(dsn, settings.nonces)
    except OperatorError as exc:
        if str(exc).startswith("database.url"):  # it is told by itself
            report.left_out["database.nonces"] = "the layouts in database.url cannot be read"
        else:
            report.findings.append(Finding.of(exc, "the gateway does not start with this list"))
        return
    for fault in found.faults:
        report.findings.append(Finding.of(fault, "the gateway does not start with this list"))
    for away in found.away:
        report.findings.append(Finding.of(away, "calls whose nonces belong there get 503, and no others"))
    for advice in found.advice:
        report.findings.append(
            Finding.of(advice, "a nonce is spent in one place only, or it could pass twice", level=WARNING)
        )
    if settings.nonces:
        report.facts["nonces"] = f"spread over {1 + len(settings.nonces)} databases"
