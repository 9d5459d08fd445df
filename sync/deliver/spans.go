package deliver

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// maxSpans bounds the spans of one delivery: a trace of a million requests helps nobody.
const maxSpans = 200

// span is around one request. It tells counts and codes, never values.
func (d *delivery) span(ctx context.Context, b *batch, p part) (context.Context, func(error)) {
	if d.Tracer == nil || d.spans.Add(1) > maxSpans {
		return ctx, func(error) {}
	}
	ctx, span := d.Tracer.Start(ctx, "send", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.Int64("dray.page", b.page.Number), attribute.Int("dray.rows", len(p.rows)), attribute.Int("dray.attempt", p.attempt)))
	return ctx, func(err error) {
		if err != nil {
			what := code(asError(err))
			span.SetStatus(otelcodes.Error, what)
			span.SetAttributes(attribute.String("error.type", what))
		}
		span.End()
	}
}
