package cli

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// flushTraces bounds how long the end of a command waits for a collector that does not answer.
const flushTraces = 5 * time.Second

// tracesWanted tells whether the environment asks for traces in the way that OpenTelemetry's other programs are asked: an endpoint
// of OTLP, or the exporter by its name, and nothing that switches them off.
func tracesWanted(env func(string) (string, bool)) bool {
	get := func(name string) string { v, _ := env(name); return strings.TrimSpace(v) }
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch get("OTEL_TRACES_EXPORTER") {
	case "otlp":
		return true
	case "":
		return get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	default: // none, or one that Dray has not
		return false
	}
}

// startTraces makes the provider of this process's spans, and ctx a child of the span in TRACEPARENT, where whoever starts Dray
// says one. Where no traces are wanted it costs nothing. end sends what is left.
func (a *app) startTraces(ctx context.Context) (_ context.Context, end func()) {
	if !tracesWanted(a.env) {
		return ctx, func() {}
	}
	exporter, err := otlptracehttp.New(ctx) // endpoint, headers, certificates and time-outs are the environment's
	if err != nil {
		a.log.Warn("no traces", "error", err)
		return ctx, func() {}
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "dray"), attribute.String("service.version", thisBinary().Version)), resource.WithFromEnv())
	if err != nil {
		a.log.Debug("the resource of traces is incomplete", "error", err)
	}
	// A collector that is away is no reason to fail, nor to say so for each batch of spans.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { a.log.Debug("traces were not taken", "error", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	a.tracer = provider.Tracer("github.com/dray-dev/dray")
	parent, _ := a.env("TRACEPARENT")
	state, _ := a.env("TRACESTATE")
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent, "tracestate": state})
	return ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTraces)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			a.log.LogAttrs(ctx, slog.LevelWarn, "the collector did not take all traces", slog.Any("error", err))
		}
	}
}
