package snowflake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Check has Snowflake compile what Dray would run, and reads the grants on its own schema: nothing is made and no warehouse resumed.
func (w *Warehouse) Check(ctx context.Context, own string, changed, read []warehouse.Table) (string, error) {
	account := w.o.account
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, w.checked(err))
		}
	}
	current, err := w.texts(ctx, "SELECT CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE()")
	if err != nil {
		return account, w.checked(err)
	}
	role := current[0][0]
	account += ", as " + role
	if current[0][1] == "" {
		note(w.denied("no warehouse: none is set, or the role may not use it", "set warehouse of warehouse: in dray.yaml, and GRANT USAGE ON WAREHOUSE … TO ROLE "+role))
	}
	there, err := w.hasSchema(ctx, own)
	switch {
	case err != nil:
		note(err)
	case there:
		note(w.may(ctx, role, "SCHEMA "+w.dialect.Table(warehouse.Table{Schema: own}), "CREATE TABLE", "CREATE VIEW"))
		for _, t := range changed {
			_, err := w.run(ctx, "EXPLAIN USING TABULAR DELETE FROM "+w.dialect.Table(t)+" WHERE FALSE")
			note(err)
		}
	default: // the first run makes it
		note(w.may(ctx, role, "DATABASE "+w.dialect.Quote(w.o.database), "CREATE SCHEMA"))
	}
	for _, t := range read {
		_, err := w.run(ctx, "EXPLAIN USING TABULAR SELECT * FROM "+w.dialect.Table(t))
		note(err)
	}
	return account, errors.Join(problems...)
}

// hasSchema looks a schema up among those that the role may see.
func (w *Warehouse) hasSchema(ctx context.Context, schema string) (bool, error) {
	found, err := w.texts(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = "+w.dialect.Text(fold(schema)))
	return len(found) > 0, err
}

// may tells whether the session's role, with those it inherits, has privileges on an object, or owns it.
func (w *Warehouse) may(ctx context.Context, role, object string, privileges ...string) error {
	granted, err := w.table(ctx, "SHOW GRANTS ON "+object)
	if err != nil {
		return err
	}
	to := map[string][]string{} // privilege → roles
	var roles []string
	for _, g := range granted {
		if p := g["privilege"]; g["granted_to"] == "ROLE" && (p == "OWNERSHIP" || slices.Contains(privileges, p)) {
			to[p] = append(to[p], g["grantee_name"])
			roles = append(roles, g["grantee_name"])
		}
	}
	slices.Sort(roles)
	roles = slices.Compact(roles)
	active := map[string]bool{}
	if len(roles) > 0 {
		parts := make([]string, len(roles))
		for i, r := range roles {
			parts[i] = "IFF(IS_ROLE_IN_SESSION(" + w.dialect.Text(r) + "), 'yes', '')"
		}
		answers, err := w.texts(ctx, "SELECT "+strings.Join(parts, ", "))
		if err != nil {
			return err
		}
		for i, a := range answers[0] {
			active[roles[i]] = a == "yes"
		}
	}
	has := func(p string) bool { return slices.ContainsFunc(to[p], func(r string) bool { return active[r] }) }
	var missing []string
	for _, p := range privileges {
		if !has(p) && !has("OWNERSHIP") {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return w.denied(fmt.Sprintf("role %s has no %s on %s", role, strings.Join(missing, ", "), strings.ToLower(object[:strings.IndexByte(object, ' ')])+object[strings.IndexByte(object, ' '):]),
		fmt.Sprintf("GRANT %s ON %s TO ROLE %s", strings.Join(missing, ", "), object, role))
}

func (w *Warehouse) denied(msg, hint string) error {
	return &warehouse.QueryError{Msg: msg, Err: warehouse.ErrDenied, Hint: hint}
}

// texts are the values of a small result, "" for NULL.
func (w *Warehouse) texts(ctx context.Context, query string) ([][]string, error) {
	rows, err := w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out [][]string
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		row := make([]string, len(v))
		for i, x := range v {
			if x != nil {
				row[i] = fmt.Sprint(x)
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// table are the same, by the columns' names.
func (w *Warehouse) table(ctx context.Context, query string) ([]map[string]string, error) {
	rows, err := w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []map[string]string
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		row := map[string]string{}
		for i, c := range rows.Columns() {
			if v[i] != nil {
				row[c.Name] = fmt.Sprint(v[i])
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// checked is a problem of Check, with what to do.
func (w *Warehouse) checked(err error) error {
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.denied", Msg: "Snowflake", Err: err}
	var q *warehouse.QueryError
	if errors.As(err, &q) {
		e.Hint = q.Hint
	}
	if !errors.Is(err, warehouse.ErrDenied) && !errors.Is(err, warehouse.ErrNotFound) {
		e.Code = "warehouse.check"
	}
	return e
}

var _ warehouse.Checker = (*Warehouse)(nil)
