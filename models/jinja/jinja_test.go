package jinja_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/jinja"
)

func renderer(t *testing.T, macros ...string) *jinja.Renderer {
	t.Helper()
	var files []config.SQLFile
	for i, m := range macros {
		files = append(files, config.SQLFile{Path: fmt.Sprintf("macros/m%d.sql", i+1), Text: m})
	}
	r, err := jinja.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func env() jinja.Env {
	return jinja.Env{
		Vars:   map[string]any{"n": 500, "rate": 0.5, "who": "ann", "list": []any{"a", "b"}, "mixed": []any{"it's", 1, 0.5, true, nil}, "yes": true},
		Target: jinja.Target{Name: "dev", Schema: "dray_dev", Type: "duckdb"},
		Now:    "TIMESTAMP '2026-01-02 03:04:05'",
		This:   &jinja.Name{SQL: `"dray"."m"`, Schema: "dray", Identifier: "m"},
		Resolve: func(r jinja.Relation) (jinja.Name, error) {
			if r.Name == "nope" {
				return jinja.Name{}, &diag.Error{Code: "model.unknown", Msg: "there is no model \"nope\""}
			}
			return jinja.Name{SQL: strings.Trim(r.Kind+"_"+r.Name+"_"+r.Table, "_"), Identifier: r.Name}, nil
		},
	}
}

func text(sql string) jinja.Text {
	return jinja.Text{SQL: sql, Pos: diag.Pos{File: "models/m.sql", Line: 1, Col: 1}}
}

func TestRender(t *testing.T) {
	t.Parallel()
	macros := []string{
		"{% macro cents(column, scale=2) %}round({{ column }} / 100.0, {{ scale }}){% endmacro %}\n{% macro both(c) -%} {{ cents(c) }}, {{ cents(c, scale=3) }} {%- endmacro %}",
		"{% macro orders() %}{{ ref('orders') }}{% endmacro %}{% macro state() %}open{% endmacro %}",
	}
	for name, c := range map[string]struct{ in, want string }{
		"plain":          {"select 1 -- {not} jinja", "select 1 -- {not} jinja"},
		"relations":      {"{{ ref('a') }} {{ source('s', \"t\") }} {{ identity('c') }} {{ profiles('c') }} {{ segment('v') }}", "ref_a source_s_t identity_c profiles_c segment_v"},
		"identifier":     {"{{ ref('a').identifier }}", "a"},
		"vars":           {"{{ var('n') }} {{ var('rate') }} '{{ var('who') }}' {{ var('missing', 7) }}", "500 0.5 'ann' 7"},
		"join":           {"in ('{{ var('list') | join(\"', '\") }}')", "in ('a', 'b')"},
		"list":           {"{{ var('list') }} {{ var('mixed') }}{% for x in var('list') %}{{ x }}{% endfor %}{{ var('list')[1] }}", "['a', 'b'] ['it''s', 1, 0.5, true, null]abb"},
		"target":         {"{{ target.name }} {{ target.schema }} {{ target['type'] }}", "dev dray_dev duckdb"},
		"this":           {"{{ this }} {{ this.schema }} {{ this.name }}", `"dray"."m" dray m`},
		"now":            {"{{ now }} {{ now() }}", "TIMESTAMP '2026-01-02 03:04:05' TIMESTAMP '2026-01-02 03:04:05'"},
		"if":             {"{% if is_incremental() %}a{% elif var('yes') and target.name == 'dev' %}b{% else %}c{% endif %}", "b"},
		"for":            {"{% for x in ['p', 'q'] %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "p, q"},
		"for over pairs": {"{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "a=1"},
		"range":          {"{% for i in range(1, 4) %}{{ i }}{% endfor %}{% for i in range(2) %}{{ i }}{% endfor %}", "12301"},
		"set":            {"{% set cols = ['a', 'b'] %}{% set block %}x{% endset %}{{ cols | length }}{{ block }}", "2x"},
		"trim":           {"a   {%- if true -%}   b   {%- endif -%}   c", "abc"},
		"comment":        {"a{# ref('nope') {{ x }} #}b", "ab"},
		"raw":            {"{% raw %}{{ ref('nope') }}{% endraw %}", "{{ ref('nope') }}"},
		"macros":         {"{{ cents('amount') }} {{ both('x') }} {{ orders() }}", "round(amount / 100.0, 2) round(x / 100.0, 2), round(x / 100.0, 3) ref_orders"},
		"macro compared": {"{% if state() == 'open' %}yes{% endif %}", "yes"},
		"own macro":      {"{% macro up(c) %}upper({{ c }}){% endmacro %}{{ up('a') }}", "upper(a)"},
		"windows":        {"a\r\n{{ var('n') }}\r\n", "a\n500"},
		"defined":        {"{% set x = 1 %}{{ x is defined }}", "True"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := renderer(t, macros...).Render(text(c.in), env())
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	macros := []string{"{% macro cents(c) %}{{ c }}{% endmacro %}\n\n{% macro lost() %}\n  {{ ref('nope') }}{% endmacro %}"}
	for name, c := range map[string]struct{ in, want string }{
		"unknown name":      {"select 1\n, {{ targett.name }}", `models/m.sql:2:6: there is no name "targett" (did you mean target?)`},
		"a variable's name": {"{{ vip_threshold }}", `models/m.sql:1:4: there is no name "vip_threshold" (a variable is written {{ var('vip_threshold') }})`},
		"not called":        {"a\n{% if is_incremental %}b{% endif %}{{ ref }}", `models/m.sql:2:7: is_incremental is a function and is not called (write is_incremental())`},
		"not called either": {"{{ ref }}", `models/m.sql:1:4: ref is a function and is not called (write ref(…))`},
		"unknown function":  {"{{ reff('a') }}", `models/m.sql:1:4: there is no function or macro "reff" (did you mean ref?)`},
		"unknown macro":     {"{{ cent('a') }}", `models/m.sql:1:4: there is no function or macro "cent" (did you mean cents?)`},
		"env_var":           {"select '{{ env_var('X') }}'", "models/m.sql:1:12: env_var is refused in SQL: its value would end in views and logs (use {{ var('name') }} and set it under vars: with ${NAME})"},
		"config":            {"{{ config(materialized='table') }}", "models/m.sql:1:4: config() has no place in a model's SQL (write materialized, primary_key and tags under models: in YAML)"},
		"var":               {"\n\n  {{ var('whoo') }}", `models/m.sql:3:6: there is no variable "whoo" (did you mean who?)`},
		"var without hint":  {"{{ var('zzzzzz') }}", `models/m.sql:1:4: there is no variable "zzzzzz" (add it under vars: or pass --vars zzzzzz=…)`},
		"dangling ref":      {"select *\nfrom {{ ref('a') }} join {{ ref('nope') }}", `models/m.sql:2:29: there is no model "nope"`},
		"ref in a macro":    {"{{ lost() }}", `macros/m1.sql:4:6: there is no model "nope"`},
		"ref arguments":     {"{{ ref('a', 'b', 'c') }}", "models/m.sql:1:4: ref takes two names: ref('package', 'name')"},
		"ref keyword":       {"{{ ref('a', w=2) }}", "models/m.sql:1:4: ref takes one name: ref('name')"},
		"source arguments":  {"{{ source('a') }}", "models/m.sql:1:4: source takes two names: source('source', 'table')"},
		"number":            {"{{ ref(1) }}", "models/m.sql:1:4: ref takes one name: ref('name')"},
		"unclosed if":       {"select 1\n{% if true %}\n2", "models/m.sql:3:2: the Jinja does not parse: Unexpected EOF, expected tag elif or else or endif"},
		"unclosed brace":    {"select {{ ref('a')", "models/m.sql:1"},
		"statement":         {"{% include 'x' %}", "models/m.sql:1:4: there is no statement {% include %} (there are if, for, set and macro)"},
		"statement typo":    {"{% iff true %}{% endif %}", "models/m.sql:1:4: there is no statement {% iff %} (did you mean if?)"},
		"filter":            {"{{ 'a' | uper }}", `models/m.sql:1:10: there is no filter "uper"`},
		"all at once":       {"{{ aaaa }}\n{{ bbbb }}", "models/m.sql:1:4: there is no name \"aaaa\" (a variable is written {{ var('aaaa') }})\nmodels/m.sql:2:4: there is no name \"bbbb\""},
		"recursion":         {"{% macro a() %}{{ b() }}{% endmacro %}\n{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", `models/m.sql:1:10: macro "a" calls itself`},
		"runtime":           {"select\n{{ target.nope }}", "models/m.sql:2: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := renderer(t, macros...).Render(text(c.in), env())
			if err == nil {
				t.Fatalf("rendered %q", got)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestBrokenMacros(t *testing.T) {
	t.Parallel()
	_, err := jinja.New([]config.SQLFile{{Path: "macros/a.sql", Text: "\n{% macro a( %}{% endmacro %}"}, {Path: "macros/b.sql", Text: "{% macro b() %}{{ env_var('X') }}{% endmacro %}"}})
	if err == nil || !strings.Contains(err.Error(), "macros/a.sql:1:1: the Jinja does not parse") || !strings.Contains(err.Error(), "macros/b.sql:1:19: env_var is refused") {
		t.Errorf("got %v", err)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	sql := "select\n{% set cols = [\n  'a',\n  'b'\n] %}\n{% for c in cols -%}\n  {{ c }},\n{% endfor %}\nlast\nfrom {{ ref('x') }}\n{%- if is_incremental() %}\nwhere 1\n{%- endif %}\nlimit 1"
	r := renderer(t)
	out, err := r.Render(text(sql), env())
	if err != nil {
		t.Fatal(err)
	}
	for line, got := range strings.Split(out, "\n") {
		want := map[string]int{"select": 1, "last": 9, "from ref_x": 10, "limit 1": 14}[got]
		if want == 0 {
			continue
		}
		if pos := r.Locate(text(sql), env(), line+1); pos.Line != want {
			t.Errorf("line %d %q is at %s, want line %d", line+1, got, pos, want)
		}
	}
	block := jinja.Text{SQL: "select\n  {{ var('n') }}\nfrom x", Pos: diag.Pos{File: "dray.yaml", Line: 10, Col: 7}}
	if pos := r.Locate(block, env(), 3); pos.String() != "dray.yaml:12" {
		t.Errorf("got %s", pos)
	}
	if pos := block.At(2, 3); pos.String() != "dray.yaml:11:9" {
		t.Errorf("got %s", pos)
	}
}

func TestValueKeepsType(t *testing.T) {
	t.Parallel()
	r := renderer(t)
	for in, want := range map[string]any{"{{ var('n') }}": 500, "{{ var('yes') }}": true, "{{ var('n') }}0": "5000", "plain": "plain"} {
		if got, err := r.Value(text(in), env()); err != nil || got != want {
			t.Errorf("%s: got %#v, %v; want %#v", in, got, err, want)
		}
	}
}

func TestParseRelation(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ref('a')": "ref('a')", `{{ source("s", 't') }}`: "source('s', 't')", " profiles('c') ": "profiles('c')",
		"ref('p', 'a')": "ref('p', 'a')", "ref('a', v=2)": "ref('a', v='2')", "ref('p','a',version='x.1')": "ref('p', 'a', v='x.1')",
		"source('s')": "", "orders": "", "ref(a)": "", "ref('a') x": "", "source('s', 't', v=1)": "", "profiles('a', 'b')": "",
		"segment('a', v=1)": "", "ref()": "", "ref('a', 'b', 'c')": "",
	} {
		got, ok := jinja.ParseRelation(in)
		if ok != (want != "") || (ok && got.String() != want) {
			t.Errorf("%s: got %v, %v", in, got, ok)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{"{{ ref('a') }}", "{% for x in [1] %}{{ x }}{% endfor %}", "{{", "{% set %}", "{# #}", "{{ 'a' | join }}", "{{ var }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := jinja.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.Render(text(s), env()); err == nil {
			r.Locate(text(s), env(), strings.Count(out, "\n"))
		}
	})
}
