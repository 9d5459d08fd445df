// Package slack sends messages about syncs to a channel of Slack, through an incoming webhook (docs.slack.dev, "Sending messages
// using incoming webhooks", 2026-07). It takes no rows of syncs.
package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/internal/diag"
)

// Connector makes slack destinations.
type Connector struct{}

// Spec declares the connector.
func (Connector) Spec() destination.Spec {
	return destination.Spec{
		Type: "slack", Title: "Slack", Summary: "Messages of `alerts:` in a channel. It takes no rows of syncs.", Notifies: true,
		Config: []destination.Option{
			{
				Name: "webhook_url", Type: "string", Required: true, Secret: true, Example: `"${SLACK_WEBHOOK}"`,
				Doc: "The address of an incoming webhook: https://hooks.slack.com/services/…. Whoever has it can post to the channel, so it is a secret.",
			},
			{Name: "base_url", Type: "string", Doc: "Another host in place of Slack's: a proxy, a stand-in."},
		},
		Limits: []string{"One message a second to a channel, short bursts above it (docs.slack.dev, rate limits)."},
	}
}

// slack is one channel. Safe for concurrent use.
type slack struct {
	http *httpx.Client
	url  string
	id   string
	hide []string
}

// Open checks the configuration; it connects to nothing.
func (Connector) Open(_ context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	target, err := url.Parse(cfg.String("webhook_url"))
	if err != nil || target.Scheme != "https" && target.Scheme != "http" || target.Host == "" { // the address is the secret: it is not quoted
		return nil, diag.Errorf(diag.Invalid, "destination.option", "slack: webhook_url is not an address").WithHint("https://hooks.slack.com/services/…")
	}
	hide := []string{target.String(), target.Path}
	if base := cfg.String("base_url"); base != "" {
		b, err := url.Parse(base)
		if err != nil || b.Host == "" {
			return nil, diag.Errorf(diag.Invalid, "destination.option", "slack: base_url is not an address")
		}
		target.Scheme, target.Host = b.Scheme, b.Host
		target.Path = strings.TrimSuffix(b.Path, "/") + target.Path
	}
	return &slack{http: env.HTTP, url: target.String(), id: target.Host, hide: hide}, nil
}

// Check tells the host only: an incoming webhook has no request that posts nothing.
func (s *slack) Check(context.Context) (destination.Account, error) {
	return destination.Account{ID: s.id, Name: s.id}, nil
}

// Write refuses: it takes no rows.
func (s *slack) Write(context.Context, *destination.Batch) ([]destination.Outcome, error) {
	return nil, &destination.Error{Class: destination.Stop, Code: "no_objects", Message: "slack takes messages, not rows"}
}

// Close does nothing.
func (s *slack) Close() error { return nil }

// Notify posts one message.
func (s *slack) Notify(ctx context.Context, n destination.Notice) error {
	body, err := json.Marshal(map[string]string{"text": "*" + escape(n.Title) + "*\n" + escape(n.Text)})
	if err != nil {
		return err
	}
	_, err = s.http.Write(ctx, httpx.Request{
		Method: http.MethodPost, URL: s.url, Header: http.Header{"Content-Type": {"application/json"}}, Body: body, What: "slack message", Secrets: s.hide,
	})
	var refused *httpx.Error
	if errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		return diag.Errorf(diag.Failed, "slack.refused", "slack does not take the message (HTTP %d)", refused.Status).WithHint("is the incoming webhook still there?")
	}
	return err
}

// escape replaces the three characters that Slack's text gives a meaning.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
