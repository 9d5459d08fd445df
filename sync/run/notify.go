package run

import (
	"context"
	"log/slog"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
)

// Notify sends a message to a destination of alerts:. It needs neither warehouse nor state.
func (p *Prepared) Notify(ctx context.Context, deps Deps, to string, n destination.Notice) error {
	node := p.Graph.Node(graph.Destination, to)
	if node == nil {
		return diag.Errorf(diag.Invalid, "alert.to", "there is no destination %q", to)
	}
	connector, ok := deps.Connector(node.Destination.Type)
	if !ok {
		return diag.Errorf(diag.Invalid, "destination.type", "there is no destination type %q", node.Destination.Type)
	}
	cfg, problems := graph.DestinationConfig(node.Destination, connector.Spec())
	if err := problems.Err(); err != nil {
		return err
	}
	log := deps.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	client := httpx.New(httpx.Options{Transport: deps.Transport, Log: log, UserAgent: deps.UserAgent, Timeout: timeout(node.Destination, connector.Spec())})
	defer client.Close()
	d, err := connector.Open(ctx, cfg, destination.Env{HTTP: client, Log: log, Now: deps.now, Dir: p.Project.Dir, Project: p.Project.Name})
	if err != nil {
		return err
	}
	defer d.Close()
	notifier, ok := d.(destination.Notifier)
	if !ok {
		return diag.Errorf(diag.Invalid, "alert.to", "destinations of type %s take no messages", node.Destination.Type)
	}
	return notifier.Notify(ctx, n)
}
