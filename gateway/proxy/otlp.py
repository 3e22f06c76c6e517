"""The way of spans to a collector, by OTLP over HTTP."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from gateway.proxy.tracing import Traces


def traces_to(endpoint: str, sample: float) -> Traces:
    """Traces whose spans go to the collector at this origin; OTEL_EXPORTER_OTLP_… say the rest, such as headers."""
    return Traces(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=2), sample)
