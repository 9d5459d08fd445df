package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	hubspot "github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	webhook "github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/sync/report"
)

// tools are the ends of the shop's syncs.
type tools struct{ crm, campaigns standin.StandIn }

// openShop copies the example and starts what it delivers to.
func openShop(t *testing.T) (*project, tools) {
	t.Helper()
	to := tools{hubspot.New(), webhook.New()}
	crm, campaigns := httptest.NewServer(to.crm.Handler()), httptest.NewServer(to.campaigns.Handler())
	t.Cleanup(crm.Close)
	t.Cleanup(campaigns.Close)
	config := to.crm.Config(crm.URL)
	return open(t, "shop",
		fmt.Sprintf("HUBSPOT_URL=%v", config["base_url"]), fmt.Sprintf("HUBSPOT_TOKEN=%v", config["access_token"]),
		"CAMPAIGNS_URL="+campaigns.URL+"/signed", "CAMPAIGNS_SECRET="+webhook.Secret), to
}

func TestShop(t *testing.T) {
	t.Parallel()
	p, to := openShop(t)
	p.dray(t, 0, "validate")

	first := computeShop(t, p)
	if len(first.contacts) < 100 || len(first.vips) < 5 || len(first.winBack) < 5 || len(first.orders) != 99 {
		t.Fatalf("the computation sees too little: %d contacts, %d vips, %d to win back, %d orders",
			len(first.contacts), len(first.vips), len(first.winBack), len(first.orders))
	}
	runs := p.run(t)
	compareShop(t, p, to, first, first.orders)
	want := map[string]report.Counts{
		"contacts_to_crm": {Add: int64(len(first.contacts))}, "vips_to_crm_list": {Add: int64(len(first.vips))},
		"win_back_to_campaigns": {Add: int64(len(first.winBack))}, "orders_to_archive": {Add: 99},
	}
	compareDelivered(t, "first load", runs, want)

	runs = p.run(t)
	compareDelivered(t, "again", runs, map[string]report.Counts{})
	for name, r := range runs {
		if r.Requests != 0 {
			t.Errorf("%s: nothing changed, and it sent %d requests", name, r.Requests)
		}
	}

	changeShop(t, p)
	second := computeShop(t, p)
	planned := p.plan(t)
	runs = p.run(t)
	for name, r := range runs {
		if planned[name] != r.Planned {
			t.Errorf("after an edit: %s planned %+v, and the run after it %+v", name, planned[name], r.Planned)
		}
	}
	compareShop(t, p, to, second, map[string]int64{"100": 0})
	want = map[string]report.Counts{
		"contacts_to_crm":   difference(first.contacts, second.contacts),
		"vips_to_crm_list":  difference(set(first.vips), set(second.vips)),
		"orders_to_archive": {Add: 1},
	}
	if c := want["contacts_to_crm"]; c.Update == 0 || c.Remove == 0 {
		t.Fatalf("the edit changes too little: %+v", c)
	}
	want["win_back_to_campaigns"] = runs["win_back_to_campaigns"].Delivered // ties in favourite_product: judged by compareShop
	compareDelivered(t, "after an edit", runs, want)
	if c := want["win_back_to_campaigns"]; c.Add+c.Remove == 0 || c.Total() > 4 {
		t.Errorf("after an edit: win_back_to_campaigns delivered %+v, want the few who entered or left", c)
	}
}

// changeShop edits a few rows: somebody moves, an order is completed and makes a VIP, one is ordered, a reader is forgotten.
func changeShop(t *testing.T, p *project) {
	t.Helper()
	contacts, orders := p.table(t, "contacts.csv"), p.table(t, "raw_orders.csv")
	contacts.rows = append(contacts.rows, []string{"275", "2", "shawn2@example.com", "", "Shawn", "København", "false", "2018-04-09 12:00:00"})
	contacts.rows = slices.DeleteFunc(contacts.rows, func(r []string) bool { return emailID(r[2]) == "email:reader05@example.org" })
	if n := orders.set("status", "completed", func(r map[string]string) bool { return r["id"] == "84" }); n != 1 {
		t.Fatalf("%d orders completed, want 1", n)
	}
	orders.rows = append(orders.rows, []string{"100", "12", "2018-04-09", "placed"})
	contacts.save(t)
	orders.save(t)
}

func compareDelivered(t *testing.T, step string, runs map[string]report.Run, want map[string]report.Counts) {
	t.Helper()
	if len(runs) != 4 {
		t.Fatalf("%s: %d syncs ran, want 4", step, len(runs))
	}
	for name, r := range runs {
		if r.Delivered != want[name] {
			t.Errorf("%s: %s delivered %+v, want %+v", step, name, r.Delivered, want[name])
		}
	}
}

// compareShop compares what the tools hold with the computation; archived are the orders of the newest file.
func compareShop(t *testing.T, p *project, to tools, want *shop, archived map[string]int64) {
	t.Helper()
	contacts := map[string]contact{}
	for _, r := range to.crm.Records("contacts", "") {
		contacts[text(r["email"])] = contact{text(r["firstname"]), text(r["lastname"]), text(r["city"]), text(r["phone"]), text(r["jobtitle"])}
	}
	compareMaps(t, "contacts", contacts, want.contacts)
	compareVIPs(t, to, want.vips)
	compareWinBack(t, to.campaigns.Records("recipients", ""), want.winBack)
	compareMaps(t, "archived orders", newestArchive(t, p), archived)
}

func compareMaps[V comparable](t *testing.T, what string, got, want map[string]V) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[key]; !ok || g != want[key] {
			t.Errorf("%s: %s is %+v (there: %v), want %+v", what, key, g, ok, want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: %s should not be there: %+v", what, key, got[key])
		}
	}
}

func compareVIPs(t *testing.T, to tools, want []string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(to.crm.Records("list_members", to.list(t, "Jaffle VIPs"))))
	if !slices.Equal(got, want) {
		t.Errorf("members of the list: %v, want %v", got, want)
	}
}

// list finds a list's id as anybody would, through the CRM's API.
func (to tools) list(t *testing.T, name string) string {
	t.Helper()
	ask := httptest.NewRequest(http.MethodGet, "/crm/v3/lists/object-type-id/0-1/name/"+url.PathEscape(name), nil)
	ask.Header.Set("Authorization", "Bearer test")
	resp := httptest.NewRecorder()
	to.crm.Handler().ServeHTTP(resp, ask)
	var found struct {
		List struct {
			ListID string `json:"listId"`
		} `json:"list"`
	}
	if err := json.Unmarshal(resp.Body.Bytes(), &found); err != nil || found.List.ListID == "" {
		t.Fatalf("no list %q at the CRM: %d (%v)", name, resp.Code, err)
	}
	return found.List.ListID
}

func compareWinBack(t *testing.T, got standin.Records, want map[string]*shopper) {
	t.Helper()
	left := maps.Clone(want)
	for _, fields := range got {
		key, ok := "", false
		for k, w := range left {
			if text(fields["email"]) == w.email && text(fields["name"]) == w.firstName && text(fields["last_order_at"]) == w.lastOrder {
				key, ok = k, true
			}
		}
		if !ok {
			t.Errorf("recipient %v should not be there", fields)
			continue
		}
		w := left[key]
		delete(left, key)
		if !slices.Contains(w.favourites, text(fields["favourite"])) {
			t.Errorf("recipient %s: favourite %v, want one of %q", key, fields["favourite"], w.favourites)
		}
		if got := strings.Trim(fmt.Sprint(fields["segments"]), "[]"); got != w.segments() {
			t.Errorf("recipient %s: segments %v, want %s", key, fields["segments"], w.segments())
		}
	}
	for key := range left {
		t.Errorf("recipient %s is missing", key)
	}
}

// newestArchive reads the file that the last run wrote: order id → cents.
func newestArchive(t *testing.T, p *project) map[string]int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "out", "orders_to_archive", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file in the archive (%v)", err)
	}
	newest := slices.MaxFunc(files, func(a, b string) int { return modified(t, a).Compare(modified(t, b)) })
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	orders := map[string]int64{}
	decode := json.NewDecoder(bytes.NewReader(data))
	decode.UseNumber()
	for decode.More() {
		var c struct {
			Operation string         `json:"operation"`
			Key       map[string]any `json:"key"`
			Fields    map[string]any `json:"fields"`
		}
		if err := decode.Decode(&c); err != nil {
			t.Fatal(err)
		}
		if c.Operation != "add" {
			t.Errorf("the archive holds the operation %q", c.Operation)
		}
		orders[fmt.Sprint(c.Key["order_id"])] = cents(c.Fields["amount"])
	}
	return orders
}
