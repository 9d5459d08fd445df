package run

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/report"
)

func (d Deps) tracer() trace.Tracer {
	if d.Tracer == nil {
		return noop.NewTracerProvider().Tracer("")
	}
	return d.Tracer
}

// span begins a step of the path; end ends it with the error that the step ended with. A span holds names, counts and codes, never
// values, and of an error its code alone (I6).
func (s *Session) span(ctx context.Context, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	ctx, span := s.deps.tracer().Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, errorCode(err))
			span.SetAttributes(attribute.String("error.type", errorCode(err)))
		}
		span.End()
	}
}

func errorCode(err error) string {
	var e *diag.Error
	switch {
	case errors.As(err, &e) && e.Code != "":
		return e.Code
	case errors.Is(err, context.Canceled):
		return "interrupted"
	default:
		return "failed"
	}
}

// step is a span around one arrow of the path.
func (s *Session) step(ctx context.Context, name string, do func(context.Context) error) error {
	ctx, end := s.span(ctx, name)
	err := do(ctx)
	end(err)
	return err
}

// begun are the attributes of a sync's span when it begins, ended those of its end.
func (r *one) begun() []attribute.KeyValue {
	out := []attribute.KeyValue{attribute.String("dray.sync", r.sync.Name), attribute.String("dray.run_id", r.holder.RunID), attribute.String("dray.mode", string(r.sync.Mode))}
	if r.sync.Destination != nil {
		out = append(out, attribute.String("dray.destination", r.sync.Destination.Name), attribute.String("dray.destination_type", r.sync.Destination.Type))
	}
	return out
}

func ended(rep report.Run) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("dray.status", string(rep.Status)), attribute.Int("dray.exit_code", rep.ExitCode),
		attribute.Int64("dray.rows", rep.Rows), attribute.Int64("dray.planned", rep.Planned.Total()),
		attribute.Int64("dray.delivered", rep.Delivered.Total()), attribute.Int64("dray.accepted", rep.Accepted.Total()),
		attribute.Int64("dray.rejected", rep.Rejected.Total()), attribute.Int64("dray.uncertain", rep.Uncertain.Total()),
		attribute.Int64("dray.held", rep.Held.Total()), attribute.Int64("dray.deferred", rep.Deferred.Total()),
		attribute.Int64("dray.requests", rep.Requests), attribute.Int64("dray.retries", rep.Retries),
	}
}
