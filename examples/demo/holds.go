package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/dray-dev/dray/connectors/standin"
)

// holds is what the tools hold at one moment.
type holds struct {
	contacts  map[string]string // key → its properties, as one text
	members   map[string]string
	campaigns map[string]string
	files     int // of the archive
	writes    int // requests that wrote, so far
}

func (d *demo) holds(ctx context.Context) holds {
	h := holds{
		contacts: texts(d.crm.Records("contacts", "")), members: texts(d.crm.Records("list_members", d.list(ctx))),
		campaigns: texts(d.campaigns.Records("recipients", "")), writes: d.campaigns.Core().Total() + writes(d.crm.Core().Requests()),
	}
	files, _ := filepath.Glob(filepath.Join(d.dir, "out", "*", "*.jsonl"))
	h.files = len(files)
	return h
}

// list is the id of the CRM's list, asked for through its API; "" where there is none.
func (d *demo) list(ctx context.Context) string {
	resp := httptest.NewRecorder()
	ask := httptest.NewRequestWithContext(ctx, http.MethodGet, "/crm/v3/lists/object-type-id/0-1/name/"+url.PathEscape("Jaffle VIPs"), nil)
	ask.Header.Set("Authorization", "Bearer demo")
	d.crm.Handler().ServeHTTP(resp, ask)
	var found struct {
		List struct {
			ListID string `json:"listId"`
		} `json:"list"`
	}
	if json.Unmarshal(resp.Body.Bytes(), &found) != nil {
		return ""
	}
	return found.List.ListID
}

// writes counts the requests that change something at the CRM; checks and look-ups do not.
func writes(requests []standin.Request) int {
	n := 0
	for _, r := range requests {
		if r.Method != "GET" && !strings.Contains(r.Path, "/read") && !strings.Contains(r.Path, "/search") {
			n++
		}
	}
	return n
}

func texts(records standin.Records) map[string]string {
	out := map[string]string{}
	for key, fields := range records {
		text, err := json.Marshal(fields)
		if err != nil {
			text = []byte(err.Error())
		}
		out[key] = string(text)
	}
	return out
}

// String is the numbers.
func (h holds) String() string {
	return fmt.Sprintf("%d contacts, %d members, %d campaign recipients, %d files", len(h.contacts), len(h.members), len(h.campaigns), h.files)
}

func (h holds) table() (table.Row, []table.Row) {
	return table.Row{"tool", "holds", "for example"}, []table.Row{
		{"CRM contacts", len(h.contacts), sample(h.contacts)},
		{"CRM list Jaffle VIPs", len(h.members), sample(h.members)},
		{"campaign recipients", len(h.campaigns), sample(h.campaigns)},
		{"archive files", h.files, ""},
	}
}

// sample is the first entry, shortened.
func sample(records map[string]string) string {
	if len(records) == 0 {
		return ""
	}
	key := slices.Min(slices.Collect(maps.Keys(records)))
	text := []rune(strings.TrimSuffix(key+" "+records[key], " {}"))
	if len(text) > 90 {
		text = append(text[:89], '…')
	}
	return string(text)
}

// since lists what is different from before, one line a change, sorted.
func (h holds) since(before holds) []string {
	lines := slices.Concat(
		changed("contact", before.contacts, h.contacts),
		changed("VIP", before.members, h.members),
		changed("recipient", before.campaigns, h.campaigns))
	if n := h.files - before.files; n > 0 {
		lines = append(lines, fmt.Sprintf("archive: %d new file", n))
	}
	slices.Sort(lines)
	return lines
}

func changed(what string, before, after map[string]string) []string {
	var lines []string
	for key, now := range after {
		switch was, ok := before[key]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s added: %s", what, key))
		case was != now:
			lines = append(lines, fmt.Sprintf("%s changed: %s", what, key))
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			lines = append(lines, fmt.Sprintf("%s removed: %s", what, key))
		}
	}
	return lines
}

// difference is what is in one list and not in the other.
func difference(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			out = append(out, x)
		}
	}
	return out
}
