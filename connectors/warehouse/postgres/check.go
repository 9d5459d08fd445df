package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Check reads the privileges on Dray's own schemas and has PostgreSQL plan the reading of the others: nothing is made.
func (w *Warehouse) Check(ctx context.Context, own string, changed, read []warehouse.Table) (string, error) {
	var user, database, account string
	var creates bool
	err := w.pool.QueryRow(ctx, "SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE')").Scan(&user, &database, &creates)
	if err != nil {
		return "", wrap(err, "")
	}
	d := w.dialect
	account = database + ", as " + user
	role := d.Quote(user)
	var problems []error
	note := func(err error, hint string) {
		if err == nil {
			return
		}
		e := &diag.Error{Kind: diag.Failed, Code: "warehouse.check", Msg: "PostgreSQL", Err: err, Hint: hint}
		if errors.Is(err, warehouse.ErrDenied) {
			e.Code = "warehouse.denied"
		}
		problems = append(problems, e)
	}
	for _, schema := range []string{own, own + "_scratch"} {
		note(w.ownSchema(ctx, schema, user, creates), "let its owner run: GRANT USAGE, CREATE ON SCHEMA "+d.Quote(schema)+" TO "+role+
			"; where there is none: CREATE SCHEMA "+d.Quote(schema)+" AUTHORIZATION "+role)
	}
	for _, t := range changed {
		note(w.owns(ctx, t, user), "let its owner run: ALTER TABLE "+d.Table(t)+" OWNER TO "+role)
	}
	usage := map[string]bool{}
	for _, t := range read {
		q := "SELECT * FROM " + d.Table(t)
		rows, err := w.pool.Query(ctx, "EXPLAIN "+q, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		if err = wrap(err, ""); err == nil {
			continue
		}
		hint := "GRANT SELECT ON " + d.Table(t) + " TO " + role
		switch {
		case errors.Is(err, warehouse.ErrNotFound):
			hint = "is it there under this name, in the database " + database + "? schema: and tables: of the source name it"
		case w.refusesUsage(ctx, t):
			if usage[t.Schema] { // said once
				continue
			}
			usage[t.Schema] = true
			hint = "GRANT USAGE ON SCHEMA " + d.Quote(t.Schema) + " TO " + role + "; and GRANT SELECT ON ALL TABLES IN SCHEMA " + d.Quote(t.Schema) + " TO " + role
		}
		if errors.Is(err, warehouse.ErrDenied) {
			hint = "let its owner run: " + hint
		}
		note(err, hint)
	}
	return account, errors.Join(problems...)
}

// ownSchema tells whether the user may make tables in a schema, or make the schema.
func (w *Warehouse) ownSchema(ctx context.Context, schema, user string, creates bool) error {
	d := w.dialect
	var there, uses bool
	name := d.Text(d.Quote(schema))
	err := w.pool.QueryRow(ctx, "SELECT to_regnamespace("+name+") IS NOT NULL, coalesce("+
		"has_schema_privilege(to_regnamespace("+name+")::oid, 'CREATE') AND has_schema_privilege(to_regnamespace("+name+")::oid, 'USAGE'), false)").Scan(&there, &uses)
	switch {
	case err != nil:
		return wrap(err, "")
	case there && uses, !there && creates:
		return nil
	case there:
		return w.denied("%s may not make tables in the schema %s", user, schema)
	}
	return w.denied("there is no schema %s, and %s may not make one", schema, user)
}

// owns tells whether the user may replace and change a table: both are its owner's.
func (w *Warehouse) owns(ctx context.Context, t warehouse.Table, user string) error {
	var owns bool
	err := w.pool.QueryRow(ctx, "SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE')), true) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = "+
		w.dialect.Text(short(t.Schema))+" AND c.relname = "+w.dialect.Text(short(t.Name))).Scan(&owns)
	if err == nil && !owns {
		return w.denied("%s does not own %s.%s", user, t.Schema, t.Name)
	}
	return wrap(err, "")
}

// refusesUsage tells whether a table's schema is not the user's to look into.
func (w *Warehouse) refusesUsage(ctx context.Context, t warehouse.Table) bool {
	var refused bool
	err := w.pool.QueryRow(ctx, "SELECT NOT has_schema_privilege(to_regnamespace("+w.dialect.Text(w.dialect.Quote(t.Schema))+")::oid, 'USAGE')").Scan(&refused)
	return err == nil && refused
}

func (w *Warehouse) denied(format string, args ...any) error {
	return &warehouse.QueryError{Msg: fmt.Sprintf(format, args...), Err: warehouse.ErrDenied}
}

var _ warehouse.Checker = (*Warehouse)(nil)
