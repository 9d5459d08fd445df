package webhook

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
)

// notice is the body of a message of alerts:.
type notice struct {
	Alert struct {
		ID      string    `json:"id"`
		State   string    `json:"state"`
		Project string    `json:"project"`
		Target  string    `json:"target,omitempty"`
		Sync    string    `json:"sync"`
		RunID   string    `json:"run_id,omitempty"`
		Title   string    `json:"title"`
		Text    string    `json:"text"`
		At      time.Time `json:"at"`
	} `json:"alert"`
}

// Notify posts a message about a sync: {"alert": {…}}, signed as batches are.
func (w *webhook) Notify(ctx context.Context, n destination.Notice) error {
	var doc notice
	a := &doc.Alert
	a.ID, a.State, a.Project, a.Target, a.Sync, a.RunID, a.Title, a.Text, a.At = n.ID, n.State, n.Project, n.Target, n.Sync, n.RunID, n.Title, n.Text, n.At.UTC()
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	_, err = w.http.Write(ctx, httpx.Request{
		Method: w.method, URL: w.url, Header: w.signed(body), Body: body, What: "webhook alert", Secrets: w.secrets,
	})
	return err
}
