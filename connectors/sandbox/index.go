package sandbox

import (
	"net/http"

	"github.com/dray-dev/dray/connectors/standin"
)

// pageSource lists the stand-ins.
const pageSource = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dray sandbox</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ddd;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}code{background:#f4f4f4;padding:.1rem .3rem;overflow-wrap:anywhere}
</style>
<h1>Dray sandbox</h1>
<p>Local stand-ins of vendors' APIs, as strict as their contracts. They keep everything in memory.</p>
<table>
<tr><th>stand-in<th>destination<th>requests<th>look in
{{range .}}<tr><td>{{.Title}}<td><code>{{.Config}}</code><td class="n">{{.Requests}}<td><a href="/{{.Name}}/_standin/state">state</a> · <a href="/{{.Name}}/_standin/requests">requests</a>
{{end}}</table>
<p>Any other path takes webhooks too: a <code>POST</code> to <code>/campaigns</code> makes a receiver of that name.
Faults: <code>POST /&lt;name&gt;/_standin/faults</code> with a list such as <code>[{"status":429,"times":3,"headers":{"Retry-After":"2"}}]</code>,
also <code>drop</code>, <code>hang</code>, <code>cut</code>, <code>omit</code>, <code>delay</code>, <code>apply</code>, <code>match</code>, <code>skip</code>;
rows to refuse: <code>POST /&lt;name&gt;/_standin/refuse</code> with <code>{"rows":["text"],"batches":["text"]}</code>;
forget everything: <code>DELETE /&lt;name&gt;/_standin</code>.</p>
</html>
`

type line struct {
	Name, Title, Config string
	Requests            int
}

func (s *Sandbox) index(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	var lines []line
	for _, m := range s.mounted {
		lines = append(lines, line{
			Name: m.name, Title: m.title, Requests: m.standIn.Core().Total(),
			Config: yaml(m.standIn.Config("http://"+r.Host+"/"+m.name), m.kind),
		})
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := s.page.Execute(w, lines); err != nil {
		standin.WriteJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
	}
}
