package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/credentials/impersonate"
	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Warehouse is one project, reached over its REST API. Safe for concurrent use.
//
// Every statement is a job under an id that was chosen here: an answer that is lost on its way is looked up by the id, so that no
// statement runs twice.
type Warehouse struct {
	o       *options
	client  *bq.Client
	pages   *reader // of large results; nil where the Storage Read API is not to be used
	dialect Dialect
	// patience is how long one request may stay without an answer that means something, its repetitions included.
	patience time.Duration
	// pause is how long the first pause before a job is run anew is.
	pause time.Duration
}

// scopes: the second is what impersonation, and tables on Google Drive, need.
func scopes() []string {
	return []string{bq.Scope, "https://www.googleapis.com/auth/cloud-platform"}
}

// Open connects, and asks for the cost of a query that reads nothing: credentials, project and the right to run jobs are known to
// be good then. dir is where a relative keyfile is looked for.
func Open(ctx context.Context, given map[string]any, dir string) (*Warehouse, error) {
	o, err := parse(given, dir)
	if err != nil {
		return nil, err
	}
	w, err := open(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	if err := w.probe(ctx); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// open makes the clients. transport is what requests for tokens go through; nil is the usual one.
func open(ctx context.Context, o *options, transport http.RoundTripper) (*Warehouse, error) {
	w := &Warehouse{o: o, patience: 2 * time.Minute, pause: time.Second}
	var shared []option.ClientOption
	creds, err := o.credentials(transport)
	switch {
	case err != nil:
		return nil, &diag.Error{Kind: diag.Invalid, Code: "warehouse.credentials", Msg: "no credentials for BigQuery", Err: errors.New(credentialWords(err)), Hint: credentialHint}
	case creds == nil:
		shared = append(shared, option.WithoutAuthentication())
	default:
		shared = append(shared, option.WithAuthCredentials(creds))
	}
	rest := shared
	if o.endpoint != "" {
		rest = append(rest[:len(rest):len(rest)], option.WithEndpoint(o.endpoint))
	}
	if w.client, err = bq.NewClient(ctx, o.execution, rest...); err != nil {
		return nil, &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "connecting to BigQuery", Err: errors.New(credentialWords(err))}
	}
	w.client.Location = o.location
	if o.storage && (!o.plain() || o.storageEndpoint != "") {
		if w.pages, err = newReader(ctx, o, shared); err != nil {
			_ = w.client.Close()
			return nil, &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "connecting to BigQuery's Storage Read API", Err: errors.New(credentialWords(err))}
		}
	}
	return w, nil
}

const credentialHint = "set keyfile, or keyfile_json from a secret, of warehouse: in dray.yaml, or run: gcloud auth application-default login"

// credentials are the key of the options, or else the application default credentials, and with either those of the service account
// that is impersonated. A stand-in gets none unless it is given a key.
func (o *options) credentials(transport http.RoundTripper) (*auth.Credentials, error) {
	detect := &credentials.DetectOptions{Scopes: scopes()}
	if transport != nil {
		detect.Client = &http.Client{Transport: transport}
	}
	var base *auth.Credentials
	var err error
	switch {
	case o.key != nil:
		base, err = credentials.NewCredentialsFromJSON(credentials.CredType(o.keyType), o.key, detect)
	case o.plain():
		return nil, nil
	default:
		base, err = credentials.DetectDefault(detect)
	}
	if err != nil || o.impersonate == "" {
		return base, err
	}
	as := &impersonate.CredentialsOptions{TargetPrincipal: o.impersonate, Scopes: scopes(), Credentials: base}
	if transport != nil {
		as.Credentials, as.Client = nil, &http.Client{Transport: &bearer{base, transport}}
	}
	return impersonate.NewCredentials(as)
}

// bearer adds a token to requests.
type bearer struct {
	of   *auth.Credentials
	next http.RoundTripper
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.of.Token(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token.Value)
	return b.next.RoundTrip(r)
}

// probe proves that jobs can be run, and finds out where, if it was not said.
func (w *Warehouse) probe(ctx context.Context) error {
	soon := *w
	soon.patience = min(w.patience, 30*time.Second) // an address that is wrong is told before everybody has left
	if _, err := soon.dry(ctx, "SELECT 1"); err != nil {
		return openError(err)
	}
	if w.o.location != "" || w.o.dataset == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	m, err := w.client.DatasetInProject(w.o.project, w.o.dataset).Metadata(ctx)
	if err != nil {
		if isNotFound(err) {
			return nil // Dray may be about to make it
		}
		return openError(wrap(err, job{}))
	}
	w.o.location, w.client.Location = m.Location, m.Location
	return nil
}

func openError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "connecting to BigQuery", Err: err}
	var q *warehouse.QueryError
	if errors.As(err, &q) {
		e.Hint = q.Hint
	}
	return e
}

// Dialect writes BigQuery's SQL.
func (w *Warehouse) Dialect() warehouse.Dialect { return w.dialect }

// Close ends all connections.
func (w *Warehouse) Close() error {
	if w.pages != nil {
		w.pages.close()
	}
	return w.client.Close()
}

// Exec runs one statement.
func (w *Warehouse) Exec(ctx context.Context, statement string) (int64, error) {
	done, err := w.run(ctx, statement)
	if err != nil {
		return 0, err
	}
	return w.changed(ctx, done), nil
}

// changed is how many rows a job changed; a script's is what its statements did together. A script whose parts may not be listed
// tells nothing.
func (w *Warehouse) changed(ctx context.Context, j *bq.Job) int64 {
	stats, _ := j.LastStatus().Statistics.Details.(*bq.QueryStatistics)
	if stats == nil {
		return 0
	}
	if stats.StatementType != "SCRIPT" {
		return stats.NumDMLAffectedRows
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	var n int64
	for it := j.Children(ctx); ; {
		child, err := it.Next()
		if err != nil { // the end, too
			return n
		}
		if s, ok := child.LastStatus().Statistics.Details.(*bq.QueryStatistics); ok && child.LastStatus().Err() == nil {
			n += s.NumDMLAffectedRows
		}
	}
}

// Columns describes a query by a dry run.
func (w *Warehouse) Columns(ctx context.Context, query string) ([]warehouse.Column, error) {
	status, err := w.dry(ctx, query)
	if err != nil {
		return nil, err
	}
	stats, _ := status.Statistics.Details.(*bq.QueryStatistics)
	if stats == nil {
		return nil, nil
	}
	return w.columns(stats.Schema), nil
}

// Estimate is how many bytes a query would read, by a dry run.
func (w *Warehouse) Estimate(ctx context.Context, query string) (int64, error) {
	status, err := w.dry(ctx, query)
	if err != nil {
		return 0, err
	}
	return status.Statistics.TotalBytesProcessed, nil
}

// Exists tells whether a table or view is there.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	of, err := w.table(t)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	_, err = of.Metadata(ctx, bq.WithMetadataView(bq.BasicMetadataView))
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, wrap(err, job{})
}

// table is a relation's place: what a name leaves out is the warehouse's own.
func (w *Warehouse) table(t warehouse.Table) (*bq.Table, error) {
	project, dataset := t.Database, t.Schema
	if project == "" {
		project = w.o.project
	}
	if dataset == "" {
		dataset = w.o.dataset
	}
	if dataset == "" {
		return nil, &warehouse.QueryError{Msg: fmt.Sprintf("table %s is in no dataset", t.Name), Hint: "set schema: of its source, or dataset of warehouse: in dray.yaml"}
	}
	return w.client.DatasetInProject(project, dataset).Table(t.Name), nil
}

// columns are a schema's, with types as SQL writes them.
func (w *Warehouse) columns(s bq.Schema) []warehouse.Column {
	out := make([]warehouse.Column, len(s))
	for i, f := range s {
		t := typeOf(f)
		out[i] = warehouse.Column{Name: f.Name, Type: t, Kind: w.dialect.KindOf(t)}
	}
	return out
}

// typeOf writes a field's type as SQL does; the API has names of its own.
func typeOf(f *bq.FieldSchema) string {
	t := elementType(f)
	if f.Repeated {
		return "ARRAY<" + t + ">"
	}
	return t
}

func elementType(f *bq.FieldSchema) string {
	switch f.Type {
	case bq.IntegerFieldType:
		return "INT64"
	case bq.FloatFieldType:
		return "FLOAT64"
	case bq.BooleanFieldType:
		return "BOOL"
	case bq.RecordFieldType:
		var parts []string
		for _, sub := range f.Schema {
			parts = append(parts, Dialect{}.Quote(sub.Name)+" "+typeOf(sub))
		}
		return "STRUCT<" + strings.Join(parts, ", ") + ">"
	case bq.RangeFieldType:
		if f.RangeElementType != nil {
			return "RANGE<" + string(f.RangeElementType.Type) + ">"
		}
	case bq.NumericFieldType, bq.BigNumericFieldType:
		switch {
		case f.Precision > 0 && f.Scale > 0:
			return fmt.Sprintf("%s(%d, %d)", f.Type, f.Precision, f.Scale)
		case f.Precision > 0:
			return fmt.Sprintf("%s(%d)", f.Type, f.Precision)
		}
	case bq.StringFieldType, bq.BytesFieldType:
		if f.MaxLength > 0 {
			return fmt.Sprintf("%s(%d)", f.Type, f.MaxLength)
		}
	}
	return string(f.Type)
}

var (
	_ warehouse.Warehouse = (*Warehouse)(nil)
	_ warehouse.Estimator = (*Warehouse)(nil)
)
