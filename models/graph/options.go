package graph

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
)

// DestinationConfig checks a destination's keys against its connector's spec and gives them the types the connector reads.
func DestinationConfig(d *config.Destination, spec destination.Spec) (destination.Config, diag.List) {
	o := options{node: d.Node, of: fmt.Sprintf("destination %q (%s)", d.Name, spec.Type), code: "destination", declared: spec.Config}
	given := maps.Clone(d.Options)
	if given == nil {
		given = map[string]any{}
	}
	if d.BaseURL != "" {
		given["base_url"] = d.BaseURL
	}
	if d.Settle != nil {
		given["settle"] = *d.Settle
	}
	for _, key := range []string{"base_url", "settle"} { // every destination takes them; a connector may want to see them
		if !slices.ContainsFunc(spec.Config, func(d destination.Option) bool { return d.Name == key }) {
			delete(given, key)
		}
	}
	o.read(given)
	return o.config, o.problems
}

// ObjectOptions does the same for a sync's options:.
func ObjectOptions(s *config.Sync, object destination.Object) (destination.Config, diag.List) {
	o := options{node: s.Node, prefix: "options.", of: fmt.Sprintf("options of sync %q", s.Name), code: "sync", declared: object.Options}
	o.read(s.Options)
	return o.config, o.problems
}

type options struct {
	node     config.Node
	prefix   string // of the keys' places
	of, code string
	declared []destination.Option
	config   destination.Config
	problems diag.List
}

func (o *options) pos(name string) diag.Pos {
	if o.prefix != "" {
		return at(o.node, o.prefix+name, strings.TrimSuffix(o.prefix, "."))
	}
	return o.node.At(name)
}

func (o *options) fail(name, code, hint, format string, args ...any) {
	e := diag.At(o.pos(name), o.code+"."+code, "%s", o.of+": "+fmt.Sprintf(format, args...))
	e.Hint = hint
	o.problems = append(o.problems, e)
}

func (o *options) read(given map[string]any) {
	o.config = destination.Config{}
	var names []string
	for _, d := range o.declared {
		names = append(names, d.Name)
		v, ok := given[d.Name]
		switch {
		case ok && v != nil:
			o.set(d, v)
		case d.Required:
			o.fail(d.Name, "missing_option", d.Doc, "%s is missing", d.Name)
		case d.Default != "":
			o.config[d.Name], _ = typed(d.Type, d.Default, true)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.Contains(names, name) {
			continue
		}
		hint := ""
		if near := config.Suggest(name, names); near != "" {
			hint = "did you mean " + near + "?"
		} else if len(names) > 0 {
			hint = "there are " + strings.Join(names, ", ")
		}
		o.fail(name, "unknown_option", hint, "there is no option %q", name)
	}
}

func (o *options) set(d destination.Option, v any) {
	reference := o.node.IsReference(o.prefix + d.Name)
	if d.Secret && !reference {
		o.fail(d.Name, "literal_secret", fmt.Sprintf("write %s: \"${%s}\" and set the variable", d.Name, strings.ToUpper(d.Name)),
			"%s is a secret and may not stand in the file", d.Name)
		return
	}
	value, ok := typed(d.Type, v, reference)
	if !ok {
		o.fail(d.Name, "option_type", "", "%s must be %s", d.Name, typeWord(d.Type))
		return
	}
	if text, isText := value.(string); isText && len(d.Enum) > 0 && !slices.Contains(d.Enum, text) {
		hint := ""
		if near := config.Suggest(text, d.Enum); near != "" {
			hint = "did you mean " + near + "?"
		}
		o.fail(d.Name, "option_value", hint, "%s must be one of %s", d.Name, strings.Join(d.Enum, ", "))
		return
	}
	if d.Required && value == "" {
		o.fail(d.Name, "missing_option", d.Doc, "%s is empty", d.Name)
		return
	}
	o.config[d.Name] = value
}

// typed gives a value the type an option declares. What came through a reference is text, and is read as its place needs.
func typed(kind string, v any, text bool) (any, bool) {
	s, isText := v.(string)
	text = text && isText
	switch kind {
	case "int":
		switch n := v.(type) {
		case int:
			return int64(n), true
		case int64:
			return n, true
		}
		n, err := strconv.ParseInt(s, 10, 64)
		return n, text && err == nil
	case "bool":
		if b, ok := v.(bool); ok {
			return b, true
		}
		b, err := strconv.ParseBool(s)
		return b, text && err == nil
	case "duration":
		if d, ok := v.(config.Duration); ok {
			return d.Duration, true
		}
		d, err := config.ParseDuration(s)
		return d.Duration, isText && err == nil
	case "map":
		return textMap(v)
	default:
		switch v.(type) {
		case string, int, int64, float64, bool:
			return fmt.Sprint(v), true
		case time.Time:
			return "", false
		}
		return "", false
	}
}

func textMap(v any) (any, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	out := make(map[string]string, len(m))
	for k, item := range m {
		switch item.(type) {
		case string, int, int64, float64, bool:
			out[k] = fmt.Sprint(item)
		default:
			return nil, false
		}
	}
	return out, true
}

func typeWord(kind string) string {
	switch kind {
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	case "duration":
		return "a duration, as in 30s or 5m"
	case "map":
		return "a map of texts"
	default:
		return "a text"
	}
}
