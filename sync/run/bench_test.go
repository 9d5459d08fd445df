package run_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkDelivery is a first run of 100,000 rows to a local server that reads and answers: go test -bench Delivery -cpuprofile.
func BenchmarkDelivery(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer srv.Close()
	for b.Loop() {
		b.StopTimer()
		p := hookProject(b, &receiver{Server: srv}, "mode: mirror\nkey: {id: id}\non_remove: delete")
		p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "batch_size: 3", "batch_size: 100", 1))
		p.exec("INSERT INTO raw.people SELECT i, 'user' || i || '@example.com', 'name ' || i, i FROM range(300000) t(i)")
		b.StartTimer()
		rep := p.must(0)
		b.ReportMetric(float64(rep.Delivered.Add)/rep.FinishedAt.Sub(rep.StartedAt).Seconds(), "rows/s")
	}
}
