package jinja

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// maxRange keeps {% for i in range(…) %} from filling the memory.
const maxRange = 100_000

// clock is {{ now }}, and {{ now() }} for those who write it so.
type clock func() string

func (c clock) String() string { return c() }

// globals are the names a text may use. Each is also listed in globalNames, for the checks before rendering.
func (r *rendering) globals() map[string]any {
	out := map[string]any{
		"ref":            r.relation("ref", 1),
		"source":         r.relation("source", 2),
		"identity":       r.relation("identity", 1),
		"profiles":       r.relation("profiles", 1),
		"segment":        r.relation("segment", 1),
		"var":            r.variable,
		"is_incremental": func(*exec.VarArgs) *exec.Value { return exec.AsValue(r.env.Incremental) },
		"now":            clock(func() string { return r.env.Now }),
		"range":          r.rangeOf,
		"target": map[string]any{
			"name": r.env.Target.Name, "schema": r.env.Target.Schema, "database": r.env.Target.Database, "type": r.env.Target.Type,
		},
	}
	if r.env.This != nil {
		out["this"] = *r.env.This
	}
	for _, name := range []string{"dict", "namespace", "cycler", "joiner"} {
		if f, ok := builtins.GlobalFunctions.Get(name); ok {
			out[name] = f
		}
	}
	return out
}

// relation is one of the functions that name a relation.
func (r *rendering) relation(kind string, want int) func(*exec.VarArgs) *exec.Value {
	return func(params *exec.VarArgs) *exec.Value {
		rel := Relation{Kind: kind}
		if kind == "ref" {
			params, want, rel.Version = versioned(params)
		}
		args, err := texts(kind, params, want)
		if err != nil {
			return r.fail(callSite{kind, ""}, err)
		}
		switch rel.Name = args[0]; {
		case kind == "ref" && want == 2:
			rel.Package, rel.Name = args[0], args[1]
		case want == 2:
			rel.Table = args[1]
		}
		name, err := r.env.Resolve(rel)
		if err != nil {
			return r.fail(callSite{kind, joinArgs(args)}, err)
		}
		return exec.AsValue(name)
	}
}

// versioned takes the version out of the arguments of ref, and tells how many names should be left.
func versioned(params *exec.VarArgs) (rest *exec.VarArgs, names int, version string) {
	rest = &exec.VarArgs{Args: params.Args, KwArgs: map[string]*exec.Value{}}
	for key, value := range params.KwArgs {
		if key == "v" || key == "version" {
			version = value.String()
		} else {
			rest.KwArgs[key] = value
		}
	}
	return rest, max(1, min(len(params.Args), 2)), version
}

func (r *rendering) variable(params *exec.VarArgs) *exec.Value {
	if len(params.Args) < 1 || len(params.Args) > 2 || len(params.KwArgs) > 0 || !params.Args[0].IsString() {
		return r.fail(callSite{"var", ""}, &diag.Error{Code: "jinja.arguments", Msg: "var takes a name and maybe a default: var('name', 0)"})
	}
	name := params.Args[0].String()
	if v, ok := r.env.Vars[name]; ok {
		return exec.AsValue(literal(v))
	}
	if len(params.Args) == 2 {
		return params.Args[1]
	}
	hint := fmt.Sprintf("add it under vars: or pass --vars %s=…", name)
	if s := config.Suggest(name, slices.Sorted(maps.Keys(r.env.Vars))); s != "" {
		hint = "did you mean " + s + "?"
	}
	return r.fail(callSite{"var", name}, &diag.Error{Code: "jinja.unknown_var", Msg: fmt.Sprintf("there is no variable %q", name), Hint: hint})
}

// rangeOf is Python's range as a list: gonja's own leaves a goroutine behind when a loop breaks.
func (r *rendering) rangeOf(params *exec.VarArgs) *exec.Value {
	bounds := []int{0, 0, 1}
	ok := len(params.Args) >= 1 && len(params.Args) <= 3
	for i, a := range params.Args {
		if !ok || !a.IsInteger() {
			ok = false
			break
		}
		if len(params.Args) == 1 {
			i = 1
		}
		bounds[i] = a.Integer()
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if !ok || step == 0 || (to-from)/step > maxRange {
		return r.fail(callSite{"range", ""}, &diag.Error{Code: "jinja.arguments", Msg: fmt.Sprintf("range takes one to three whole numbers and gives at most %d", maxRange)})
	}
	out := []int{}
	for i := from; (step > 0 && i < to) || (step < 0 && i > to); i += step {
		out = append(out, i)
	}
	return exec.AsValue(out)
}

// fail keeps the first error, with the place of the call.
func (r *rendering) fail(site callSite, err error) *exec.Value {
	var e *diag.Error
	if !errors.As(err, &e) {
		e = &diag.Error{Code: "jinja.render", Err: err}
	}
	if e.Pos.IsZero() {
		placed := *e
		placed.Pos = r.place(site)
		e = &placed
	}
	if r.err == nil {
		r.err = e
	}
	return exec.AsValue(e)
}

// place finds a call: with those arguments in the text, else any call of the function there, else in the macros.
func (r *rendering) place(site callSite) diag.Pos {
	for _, sites := range []callSites{r.calls, r.macroCalls} {
		if pos, ok := sites[site]; ok {
			return pos
		}
		if pos, ok := sites[callSite{site.function, ""}]; ok {
			return pos
		}
	}
	return r.text.Pos
}

func texts(function string, params *exec.VarArgs, want int) ([]string, error) {
	usage := map[int]string{1: "one name: %s('name')", 2: "two names: %s('source', 'table')"}
	if function == "ref" {
		usage[2] = "two names: %s('package', 'name')"
	}
	bad := &diag.Error{Code: "jinja.arguments", Msg: fmt.Sprintf(function+" takes "+usage[want], function)}
	if len(params.Args) != want || len(params.KwArgs) > 0 {
		return nil, bad
	}
	out := make([]string, want)
	for i, a := range params.Args {
		if !a.IsString() {
			return nil, bad
		}
		out[i] = a.String()
	}
	return out, nil
}
