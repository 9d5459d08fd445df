package bigquery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Check asks by dry runs, which BigQuery refuses as it would the statements themselves ("dryRun" in the description of its API).
func (w *Warehouse) Check(ctx context.Context, own string, changed, read []warehouse.Table) (string, error) {
	var problems []error
	note := func(err error) bool {
		if err != nil {
			problems = append(problems, checked(err))
		}
		return err == nil
	}
	account := w.o.project
	if w.o.execution != w.o.project {
		account += ", paid by " + w.o.execution
	}
	if _, err := w.dry(ctx, "SELECT 1"); !note(err) {
		return account, errors.Join(problems...)
	}
	_, err := w.dry(ctx, w.dialect.CreateSchema(own+"_dray_check")) // plans and checks are made in a dataset of their own, which goes again
	note(err)
	look, cancel := context.WithTimeout(ctx, w.patience)
	m, err := w.client.DatasetInProject(w.o.project, own).Metadata(look)
	cancel()
	switch {
	case isNotFound(err): // the first run makes it, if it may
	case err != nil:
		note(wrap(err, job{}))
	default:
		if w.o.location != "" && !strings.EqualFold(m.Location, w.o.location) {
			problems = append(problems, &diag.Error{
				Kind: diag.Invalid, Code: "warehouse.location", Msg: fmt.Sprintf("dataset %s is in %s, and location of warehouse: is %s", own, m.Location, w.o.location),
				Hint: "location: " + m.Location,
			})
		}
		_, err := w.dry(ctx, "CREATE OR REPLACE TABLE "+w.dialect.Table(warehouse.Table{Schema: own, Name: "dray_check"})+" AS SELECT 1 AS x")
		note(err)
		for _, t := range changed {
			_, err := w.dry(ctx, "DELETE FROM "+w.dialect.Table(t)+" WHERE FALSE")
			note(err)
		}
	}
	for i, t := range read {
		_, err := w.dry(ctx, "SELECT * FROM "+w.dialect.Table(t))
		if note(err) && w.pages != nil && i == 0 {
			note(w.pages.allowed(ctx, w, t))
		}
	}
	return account, errors.Join(problems...)
}

// checked is a problem of Check, with what to do.
func checked(err error) error {
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.denied", Msg: "BigQuery", Err: err}
	var q *warehouse.QueryError
	if errors.As(err, &q) {
		e.Hint = q.Hint
	}
	if !errors.Is(err, warehouse.ErrDenied) {
		e.Code = "warehouse.check"
	}
	return e
}

// allowed tells whether sessions of the Storage Read API may be opened; only that they may not is an error: views, for one, are not
// read that way.
func (r *reader) allowed(ctx context.Context, w *Warehouse, t warehouse.Table) error {
	of, err := w.table(t)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	_, err = r.client.CreateReadSession(ctx, &storagepb.CreateReadSessionRequest{
		Parent: r.parent, MaxStreamCount: 1,
		ReadSession: &storagepb.ReadSession{Table: fmt.Sprintf("projects/%s/datasets/%s/tables/%s", of.ProjectID, of.DatasetID, of.TableID), DataFormat: storagepb.DataFormat_ARROW},
	})
	if s, _ := status.FromError(err); s.Code() == codes.PermissionDenied {
		msg := denied(oneLine(s.Message()))
		return &warehouse.QueryError{Msg: msg, Err: warehouse.ErrDenied, Hint: grantFor(msg) + ", or set storage_read_api: false: large results are then read more slowly"}
	}
	return nil
}

var _ warehouse.Checker = (*Warehouse)(nil)
