package config

import (
	"net/url"
	"slices"
	"strings"
)

func (c *checker) sync(s *Sync) {
	c.syncSource(s)
	c.syncMode(s)
	c.syncFields(s)
	c.syncRows(s)
	if s.good("remember") && s.Remember != "forever" {
		if d, err := ParseDuration(s.Remember); err != nil || d.Duration <= 0 {
			c.problem(s.At("remember"), "config.type", "%q wants forever or a duration", "remember").WithHint("remember: 90 days")
		}
	}
	if s.good("deadline") && s.Deadline.Duration <= 0 {
		c.problem(s.At("deadline"), "config.type", "%q wants more than nothing", "deadline").WithHint("deadline: 2h; leave it out for no limit")
	}
	if s.good("checkpoint") && s.Checkpoint.Duration <= 0 {
		c.problem(s.At("checkpoint"), "config.type", "%q wants more than nothing", "checkpoint").WithHint("checkpoint: 5m")
	}
	if s.Retry.good("attempts") && s.Retry.Attempts < 1 {
		c.problem(s.Retry.At("attempts"), "config.type", "%q wants at least 1: the first try counts", "attempts")
	}
	if s.Hooks != nil {
		for _, h := range slices.Concat(s.Hooks.Before, s.Hooks.After) {
			c.hook(h)
		}
	}
}

// hook holds that it is a command or a request. The address is not quoted: it may hold a token.
func (c *checker) hook(h *Hook) {
	if h == nil {
		return
	}
	if h.Has("run") == h.Has("url") {
		c.problem(h.Pos, "config.hook", "a hook needs exactly one of run and url").WithHint("{run: ./load.sh}, or {url: \"https://…\"}")
		return
	}
	if h.Has("run") && h.good("run") && strings.TrimSpace(h.Run) == "" {
		c.problem(h.At("run"), "config.hook", "the hook's command is empty")
	}
	if h.Has("url") && h.good("url") {
		if u, err := url.Parse(h.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			c.problem(h.At("url"), "config.hook", "the hook's url is not an http or https address")
		}
	}
	if h.good("timeout") && h.Timeout.Duration <= 0 {
		c.problem(h.At("timeout"), "config.type", "%q wants more than nothing", "timeout").WithHint("timeout: 1m")
	}
}

// syncSource holds that a sync reads exactly one thing.
func (c *checker) syncSource(s *Sync) {
	var said []string
	for _, k := range []string{"model", "segment", "entity"} {
		if s.Has(k) {
			said = append(said, k)
		}
	}
	name := s.shown("name", s.Name)
	switch {
	case len(said) == 0:
		c.problem(s.Pos, "config.sync", "sync %s does not say what it delivers", name).WithHint("exactly one of model, segment and entity")
	case len(said) > 1:
		c.problem(s.At(said[1]), "config.sync", "sync %s has both %s and %s", name, said[0], said[1]).WithHint("keep one of them")
	}
}

// syncMode refuses keys that a mode would not look at.
func (c *checker) syncMode(s *Sync) {
	if !slices.Contains([]string{"upsert", "update", "insert", "mirror"}, s.Mode) {
		return
	}
	onlyFor := func(mode string, keys ...string) {
		for _, k := range keys {
			if s.Has(k) && s.Mode != mode {
				c.problem(s.At(k), "config.sync", "%s is for mode: %s; sync %s is mode: %s", k, mode, s.shown("name", s.Name), s.Mode)
			}
		}
	}
	onlyFor("mirror", "on_remove")
	onlyFor("insert", "remember", "on_expired", "on_uncertain")
	if s.OnRemove != nil && s.OnRemove.Act == "set" {
		c.setFields(s)
	}
}

// syncRows checks what decides which rows are sent: consent, the control group, one row a value of an identifier, age.
func (c *checker) syncRows(s *Sync) {
	name := s.shown("name", s.Name)
	if s.Has("consent") && !s.Has("model") {
		c.problem(s.At("consent"), "config.sync", "consent names a column of a model; profiles consent by a trait").
			WithHint("on the entity: consent: {purpose: trait}")
	}
	if s.Has("expand") && s.Has("model") {
		c.problem(s.At("expand"), "config.sync", "expand is for profiles; sync %s reads a model", name)
	}
	if s.Has("refresh") && s.Mode == "insert" {
		c.problem(s.At("refresh"), "config.sync", "refresh is not for mode: insert, which sends a row once")
	}
	if s.good("refresh") && s.Refresh.Duration <= 0 {
		c.problem(s.At("refresh"), "config.type", "%q wants more than nothing", "refresh").WithHint("refresh: 30 days")
	}
	h := s.Holdout
	if h == nil || !s.good("holdout") {
		return
	}
	switch {
	case h.Has("share") == h.Has("column"):
		c.problem(s.At("holdout"), "config.holdout", "holdout of sync %s needs exactly one of share and column", name).WithHint("holdout: 10%%, or {column: in_control}")
	case h.Has("column") && (h.Has("seed") || h.Has("by")):
		c.problem(s.At("holdout"), "config.holdout", "seed and by belong to a share; a column says itself who is held out")
	case h.Has("share") && h.good("share") && (h.Share <= 0 || h.Share >= 1):
		c.problem(h.At("share"), "config.holdout", "holdout wants a share between 0 %% and 100 %%").WithHint("holdout: 10%%")
	}
}

// setFields holds that what on_remove sets is mapped too, so that the snapshot knows it.
func (c *checker) setFields(s *Sync) {
	var mapped []string
	for _, f := range s.Fields {
		mapped = append(mapped, f.Name)
	}
	for name := range s.OnRemove.Set {
		if slices.Contains(mapped, name) {
			continue
		}
		e := c.problem(s.OnRemove.At("set."+name), "config.sync", "on_remove sets %q, which sync %s does not map", name, s.shown("name", s.Name))
		if near := Suggest(name, mapped); near != "" {
			e.WithHint("did you mean %s?", near)
		} else {
			e.WithHint("add it to fields")
		}
	}
}

// syncFields holds that every field of the destination gets its value from one place.
func (c *checker) syncFields(s *Sync) {
	seen := map[string]*Field{}
	for _, f := range s.Fields {
		c.lookup(f)
		folded := strings.ToLower(f.Name)
		switch first, twice := seen[folded]; {
		case f.Name == "":
			c.problem(f.Pos, "config.field", "a field has no name")
		case twice:
			c.problem(f.Pos, "config.field", "fields %q and %q differ only in letter case; first at %s", first.Name, f.Name, first.Pos)
		default:
			seen[folded] = f
		}
	}
	for _, k := range s.Key {
		c.keyColumns(k, seen)
	}
}

// lookup holds that all three parts of a look-up say something.
func (c *checker) lookup(f *Field) {
	l := f.Lookup
	if l == nil {
		return
	}
	for _, k := range []struct{ key, text string }{{"object", l.Object}, {"by", l.By}, {"value", l.Value}} {
		if l.Has(k.key) && l.good(k.key) && strings.TrimSpace(k.text) == "" {
			c.problem(l.At(k.key), "config.empty", "%s of the lookup of field %q is empty", k.key, f.Name).
				WithHint("{object: companies, by: external_id, value: a column}")
		}
	}
}

func (c *checker) keyColumns(k Key, fields map[string]*Field) {
	seen := map[string]bool{}
	for _, column := range k.Columns {
		folded := strings.ToLower(column.Name)
		if seen[folded] {
			c.problem(column.Pos, "config.field", "key %q is there twice, in another letter case", column.Name)
		}
		seen[folded] = true
		f := fields[folded]
		if f != nil && (f.Name != column.Name || f.Column != column.Column) {
			c.problem(f.Pos, "config.field", "field %q is also the key, with another value; the key is at %s", f.Name, column.Pos).
				WithHint("the key is always sent: take the field away")
		}
	}
}
