package bigquery

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	bq "cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// reader reads large results by the Storage Read API: Arrow batches over one stream, in the result's order. (The client library can
// do the same, but takes a stream that breaks behind rows that are not read yet for its end.)
type reader struct {
	client *storage.BigQueryReadClient
	parent string
}

// largestBatch is what the API sends at most at once ("Quotas and limits" of BigQuery's documentation: 128 MB), with what frames it.
const largestBatch = 129 << 20

func newReader(ctx context.Context, o *options, shared []option.ClientOption) (*reader, error) {
	all := shared[:len(shared):len(shared)]
	if o.plain() {
		all = []option.ClientOption{option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
	}
	if o.storageEndpoint != "" {
		all = append(all, option.WithEndpoint(o.storageEndpoint))
	}
	client, err := storage.NewBigQueryReadClient(ctx, all...)
	if err != nil {
		return nil, err
	}
	return &reader{client, "projects/" + o.execution}, nil
}

func (r *reader) close() { _ = r.client.Close() }

// open begins to read the result of a job that is done, of which it is known how many rows it has.
func (r *reader) open(ctx context.Context, w *Warehouse, j *bq.Job, total uint64, columns []warehouse.Column) (*arrowRows, error) {
	config, err := j.Config()
	if err != nil {
		return nil, err
	}
	q, _ := config.(*bq.QueryConfig)
	if q == nil || q.Dst == nil {
		return nil, errors.New("the job has no table")
	}
	rows := &arrowRows{
		from: r.client, watch: newWatch(ctx, w.patience), pause: w.pause, total: total, columns: columns, values: make([]any, len(columns)), at: -1,
		job: job{j.ID(), j.Location()},
	}
	rows.watch.arm()
	session, err := r.client.CreateReadSession(rows.watch.ctx, &storagepb.CreateReadSessionRequest{
		Parent: r.parent, MaxStreamCount: 1,
		ReadSession: &storagepb.ReadSession{
			Table:      fmt.Sprintf("projects/%s/datasets/%s/tables/%s", q.Dst.ProjectID, q.Dst.DatasetID, q.Dst.TableID),
			DataFormat: storagepb.DataFormat_ARROW,
		},
	})
	rows.watch.disarm()
	if err == nil {
		err = rows.begin(session)
	}
	if err != nil {
		rows.watch.close()
		return nil, err
	}
	return rows, nil
}

// arrowRows are Rows that lie in Arrow batches, and can be read there.
type arrowRows struct {
	from    *storage.BigQueryReadClient
	stream  storagepb.BigQueryRead_ReadRowsClient
	name    string
	schema  []byte
	batch   arrow.RecordBatch
	at      int    // the current row in the batch
	read    uint64 // rows of all batches so far
	total   uint64
	columns []warehouse.Column
	values  []any
	job     job
	watch   *watch
	pause   time.Duration
	err     error
	done    bool
}

// begin takes a session in which each column is of a type that is read here.
func (r *arrowRows) begin(s *storagepb.ReadSession) error {
	if len(s.GetStreams()) != 1 {
		return fmt.Errorf("the session has %d streams", len(s.GetStreams()))
	}
	r.name, r.schema = s.GetStreams()[0].GetName(), s.GetArrowSchema().GetSerializedSchema()
	head, err := ipc.NewReader(bytes.NewReader(r.schema))
	if err != nil {
		return err
	}
	defer head.Release()
	fields := head.Schema().Fields()
	if len(fields) != len(r.columns) {
		return errors.New("the session's columns are not the result's")
	}
	for i, f := range fields {
		if f.Name != r.columns[i].Name || !readable(f.Type, r.columns[i].Kind) {
			return fmt.Errorf("column %d is a %s", i, f.Type)
		}
	}
	return nil
}

// readable are the types that value and the cells know, as the client library of BigQuery maps them.
func readable(t arrow.DataType, k warehouse.Kind) bool {
	switch t.ID() {
	case arrow.BOOL:
		return k == warehouse.Bool
	case arrow.INT64:
		return k == warehouse.Int
	case arrow.FLOAT64:
		return k == warehouse.Float
	case arrow.DATE32:
		return k == warehouse.Date
	case arrow.TIMESTAMP:
		return k == warehouse.Timestamp
	case arrow.DECIMAL128, arrow.DECIMAL256:
		return k == warehouse.Decimal
	case arrow.STRING:
		return k == warehouse.Text || k == warehouse.JSON || k == warehouse.Decimal
	case arrow.BINARY, arrow.TIME64:
		return k == warehouse.Text
	}
	return false
}

func (r *arrowRows) Columns() []warehouse.Column { return r.columns }

// Next goes to the next row; at the end of a batch to the next one.
func (r *arrowRows) Next() bool {
	r.at++
	for r.batch == nil || r.at >= int(r.batch.NumRows()) {
		r.release()
		r.at = 0
		if r.done || r.err != nil || !r.fetch() {
			r.at = -1
			return false
		}
	}
	return true
}

// fetch reads one batch. A stream that breaks is opened again behind the rows that came.
func (r *arrowRows) fetch() bool {
	pause := r.pause
	for try := 1; ; try++ {
		r.watch.arm()
		err := r.receive()
		r.watch.disarm()
		switch {
		case err == nil:
			return true
		case errors.Is(err, io.EOF):
			r.done = true
			if r.read != r.total {
				r.err = &warehouse.QueryError{
					Msg: fmt.Sprintf("BigQuery's Storage Read API gave %d of %d rows", r.read, r.total), Err: warehouse.ErrEngine,
					Hint: "run again, or set storage_read_api: false",
				}
			}
			return false
		}
		r.stream = nil
		if try == tries || !broken(err) || sleep(r.watch.ctx, pause) != nil {
			r.err = r.explain(err)
			return false
		}
		pause *= 2
	}
}

func (r *arrowRows) receive() error {
	if r.stream == nil {
		stream, err := r.from.ReadRows(r.watch.ctx, &storagepb.ReadRowsRequest{ReadStream: r.name, Offset: int64(r.read)}, //nolint:gosec // rows
			gax.WithGRPCOptions(grpc.MaxCallRecvMsgSize(largestBatch)))
		if err != nil {
			return err
		}
		r.stream = stream
	}
	for {
		answer, err := r.stream.Recv()
		if err != nil {
			return err
		}
		if answer.GetRowCount() == 0 { // only says how far it is
			continue
		}
		body, err := ipc.NewReader(io.MultiReader(bytes.NewReader(r.schema), bytes.NewReader(answer.GetArrowRecordBatch().GetSerializedRecordBatch())))
		if err != nil {
			return err
		}
		defer body.Release()
		if !body.Next() {
			if err := body.Err(); err != nil {
				return err
			}
			return errors.New("an empty batch")
		}
		r.batch = body.RecordBatch()
		if r.batch.NumRows() != answer.GetRowCount() {
			r.batch = nil
			return errors.New("a batch has not the rows that it says")
		}
		r.batch.Retain()
		r.read += uint64(answer.GetRowCount()) //nolint:gosec // checked
		return nil
	}
}

// broken are the codes that the client library opens a stream again after.
func broken(err error) bool {
	switch status.Code(err) {
	case codes.Aborted, codes.DeadlineExceeded, codes.Internal, codes.Unavailable:
		return true
	}
	return false
}

func (r *arrowRows) explain(err error) error {
	if r.watch.outer.Err() != nil {
		return r.watch.outer.Err()
	}
	out := &warehouse.QueryError{Err: warehouse.ErrEngine, Hint: "run again, or set storage_read_api: false of warehouse: in dray.yaml"}
	s, ok := status.FromError(err)
	switch {
	case context.Cause(r.watch.ctx) != nil:
		out.Msg = "BigQuery's Storage Read API did not answer in time"
	case !ok:
		out.Msg = "an answer of BigQuery's Storage Read API does not read"
	case s.Code() == codes.PermissionDenied:
		out.Msg = denied(oneLine(s.Message()))
		out.Err, out.Hint = warehouse.ErrDenied, grantFor(out.Msg)
	default:
		out.Msg = "BigQuery's Storage Read API failed: " + s.Code().String()
	}
	return out
}

// Values makes Go values of the current row.
func (r *arrowRows) Values() ([]any, error) {
	for i := range r.values {
		r.values[i] = valueAt(r.batch.Column(i), r.at)
	}
	return r.values, nil
}

func valueAt(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	case *array.String:
		return string(append([]byte(nil), a.Value(i)...)) // the batch is given back
	case *array.Binary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.Date32, *array.Timestamp:
		return timeAt(a, i)
	case *array.Time64:
		return a.Value(i).FormattedString(arrow.Microsecond)
	case *array.Decimal128:
		return decimal(a.Value(i).BigInt(), a.DataType())
	case *array.Decimal256:
		return decimal(a.Value(i).BigInt(), a.DataType())
	}
	return nil // readable lets nothing else in
}

func timeAt(a arrow.Array, i int) time.Time {
	switch a := a.(type) {
	case *array.Date32:
		return a.Value(i).ToTime()
	case *array.Timestamp:
		if t, ok := a.DataType().(*arrow.TimestampType); ok {
			return a.Value(i).ToTime(t.Unit)
		}
	}
	return time.Time{}
}

func decimal(unscaled *big.Int, t arrow.DataType) string {
	d, _ := t.(arrow.DecimalType)
	if d == nil {
		return unscaled.String()
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.GetScale())), nil)
	return digits(new(big.Rat).SetFrac(unscaled, scale))
}

func (r *arrowRows) Err() error { return r.err }

func (r *arrowRows) Close() error {
	r.release()
	r.done = true
	r.watch.close()
	return nil
}

func (r *arrowRows) release() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// Cells reads the rows where they lie, unless a text would have to be made first.
func (r *arrowRows) Cells() (warehouse.Cells, bool) {
	head, err := ipc.NewReader(bytes.NewReader(r.schema))
	if err != nil {
		return nil, false
	}
	defer head.Release()
	for i, f := range head.Schema().Fields() {
		switch r.columns[i].Kind { //nolint:exhaustive // all others are read as they are
		case warehouse.Text, warehouse.JSON, warehouse.Decimal:
			if f.Type.ID() != arrow.STRING {
				return nil, false
			}
		}
	}
	return (*arrowCells)(r), true
}

// arrowCells are the same rows, value by value.
type arrowCells arrowRows

func (c *arrowCells) Next() bool           { return (*arrowRows)(c).Next() }
func (c *arrowCells) Null(column int) bool { return c.batch.Column(column).IsNull(c.at) }

func (c *arrowCells) Int(column int) int64 {
	if a, ok := c.batch.Column(column).(*array.Int64); ok {
		return a.Value(c.at)
	}
	return 0
}

func (c *arrowCells) Float(column int) float64 {
	if a, ok := c.batch.Column(column).(*array.Float64); ok {
		return a.Value(c.at)
	}
	return 0
}

func (c *arrowCells) Bool(column int) bool {
	a, ok := c.batch.Column(column).(*array.Boolean)
	return ok && a.Value(c.at)
}

func (c *arrowCells) Time(column int) time.Time { return timeAt(c.batch.Column(column), c.at) }

func (c *arrowCells) Text(column int) string {
	if a, ok := c.batch.Column(column).(*array.String); ok {
		return a.Value(c.at)
	}
	return ""
}

var _ warehouse.InPlace = (*arrowRows)(nil)
