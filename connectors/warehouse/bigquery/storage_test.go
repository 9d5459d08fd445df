package bigquery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// readServer speaks the Storage Read API, of the stubs that Google's own description of it generates.
type readServer struct {
	storagepb.UnimplementedBigQueryReadServer
	t      *testing.T
	at     string
	batch  int           // rows a batch
	schema *arrow.Schema // of the one result
	rows   int           // it has
	fill   func(b *array.RecordBuilder, row int)
	mu     sync.Mutex
	refuse error                // of sessions
	breaks func(sent int) error // asked before each batch
	opened []int64              // offsets at which streams were opened
	asked  *storagepb.CreateReadSessionRequest
}

func newReadServer(t *testing.T, schema *arrow.Schema, rows int, fill func(*array.RecordBuilder, int)) *readServer {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &readServer{t: t, at: lis.Addr().String(), batch: 1000, schema: schema, rows: rows, fill: fill}
	g := grpc.NewServer()
	storagepb.RegisterBigQueryReadServer(g, s)
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	return s
}

func (s *readServer) CreateReadSession(_ context.Context, r *storagepb.CreateReadSessionRequest) (*storagepb.ReadSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = r
	if s.refuse != nil {
		return nil, s.refuse
	}
	var head bytes.Buffer
	w := ipc.NewWriter(&head, ipc.WithSchema(s.schema))
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &storagepb.ReadSession{
		Name: "projects/shop-project/locations/eu/sessions/1", DataFormat: storagepb.DataFormat_ARROW, Table: r.GetReadSession().GetTable(),
		Schema:  &storagepb.ReadSession_ArrowSchema{ArrowSchema: &storagepb.ArrowSchema{SerializedSchema: withoutEnd(head.Bytes())}},
		Streams: []*storagepb.ReadStream{{Name: "projects/shop-project/locations/eu/sessions/1/streams/1"}}, EstimatedRowCount: int64(s.rows),
	}, nil
}

// withoutEnd takes off the mark of the end of an Arrow stream (eight bytes): schema and batches come as messages of their own.
func withoutEnd(b []byte) []byte {
	return bytes.TrimSuffix(b, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
}

func (s *readServer) ReadRows(r *storagepb.ReadRowsRequest, to storagepb.BigQueryRead_ReadRowsServer) error {
	s.mu.Lock()
	s.opened = append(s.opened, r.GetOffset())
	s.mu.Unlock()
	for from := int(r.GetOffset()); from < s.rows; from += s.batch {
		if s.breaks != nil {
			s.mu.Lock()
			err := s.breaks(from)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, s.schema)
		n := min(s.batch, s.rows-from)
		for i := range n {
			s.fill(b, from+i)
		}
		batch := b.NewRecordBatch()
		var head, all bytes.Buffer
		hw := ipc.NewWriter(&head, ipc.WithSchema(s.schema))
		if err := hw.Close(); err != nil {
			return err
		}
		w := ipc.NewWriter(&all, ipc.WithSchema(s.schema))
		if err := w.Write(batch); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		batch.Release()
		err := to.Send(&storagepb.ReadRowsResponse{
			RowCount: int64(n),
			Rows: &storagepb.ReadRowsResponse_ArrowRecordBatch{ArrowRecordBatch: &storagepb.ArrowRecordBatch{
				SerializedRecordBatch: withoutEnd(all.Bytes()[len(withoutEnd(head.Bytes())):]),
			}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fields(f ...arrow.Field) *arrow.Schema { return arrow.NewSchema(f, nil) }

func manyRows(s *server, n int) {
	is := answer{schema: []map[string]any{field("i", "INTEGER"), field("t", "STRING")}}
	for i := range n {
		is.rows = append(is.rows, []any{fmt.Sprint(i), fmt.Sprintf("text of %d", i)})
	}
	s.answer = always(is)
	s.page = n
}

func twoColumns(b *array.RecordBuilder, row int) {
	b.Field(0).(*array.Int64Builder).Append(int64(row))
	b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("text of %d", row))
}

// Large results come as Arrow batches, each row once and in order, also where the stream breaks.
func TestStorageRead(t *testing.T) {
	t.Parallel()
	const n = large + 345
	schema := fields(arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true})
	times := func(k int, code codes.Code) func(int) error {
		return func(sent int) error {
			if k > 0 && sent >= 3000 {
				k--
				return status.Error(code, "broken")
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		rows    int
		breaks  func(int) error
		refuse  error
		stream  bool
		wants   error
		reopens int
	}{
		"all is well":            {rows: n, stream: true},
		"it breaks":              {rows: n, stream: true, breaks: times(1, codes.Unavailable), reopens: 1},
		"it breaks thrice":       {rows: n, stream: true, breaks: times(3, codes.Internal), reopens: 3},
		"it breaks for good":     {rows: n, stream: true, breaks: times(1<<30, codes.Unavailable), wants: warehouse.ErrEngine},
		"it is refused midway":   {rows: n, stream: true, breaks: times(1, codes.PermissionDenied), wants: warehouse.ErrDenied},
		"rows are missing":       {rows: n - 1, stream: true, wants: warehouse.ErrEngine},
		"it may not be used":     {rows: n, refuse: status.Error(codes.PermissionDenied, "request failed: the user does not have 'bigquery.readsessions.create' permission for 'projects/shop-project'")},
		"it is not there at all": {rows: n, refuse: status.Error(codes.Unimplemented, "unknown service")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			manyRows(s, n)
			g := newReadServer(t, schema, tt.rows, twoColumns)
			g.breaks, g.refuse = tt.breaks, tt.refuse
			w := connect(t, s, map[string]any{"storage_api_endpoint": g.at})
			rows, err := w.Query(t.Context(), "SELECT i, t")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			if _, stream := rows.(*arrowRows); stream != tt.stream {
				t.Fatalf("read by %T", rows)
			}
			got := 0
			for ; rows.Next(); got++ {
				v, err := rows.Values()
				if err != nil || v[0] != int64(got) || v[1] != fmt.Sprintf("text of %d", got) {
					t.Fatalf("row %d is %v, %v", got, v, err)
				}
			}
			if !errors.Is(rows.Err(), tt.wants) || tt.wants == nil && got != n {
				t.Errorf("%d rows, %v", got, rows.Err())
			}
			if tt.wants != nil && hint(rows.Err()) == "" {
				t.Errorf("no way out: %v", rows.Err())
			}
			if tt.stream && tt.wants == nil && len(g.opened) != 1+tt.reopens {
				t.Errorf("opened at %v", g.opened)
			}
			if g.asked.GetParent() != "projects/shop-project" || !strings.HasPrefix(g.asked.GetReadSession().GetTable(), "projects/shop-project/datasets/_anon/tables/anon_dray_") ||
				g.asked.GetMaxStreamCount() != 1 {
				t.Errorf("asked for %v", g.asked)
			}
		})
	}
}

func TestSmallResultsAreReadByPages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	manyRows(s, large-1)
	g := newReadServer(t, fields(), 0, nil)
	w := connect(t, s, map[string]any{"storage_api_endpoint": g.at})
	rows, err := w.Query(t.Context(), "SELECT i, t")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if g.asked != nil {
		t.Error("a session for a few rows")
	}
}

// Each type gives what the REST API's rows give, and in place too.
func TestStorageTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	day := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	cells := []any{"-9223372036854775808", "1.5", "true", "æ 'q'\n", "2024-02-29", "1709251199123456", "2024-02-29T23:59:59.123456", "-0.000000001", "aGVq"}
	is := answer{schema: []map[string]any{
		field("i", "INTEGER"), field("f", "FLOAT"), field("b", "BOOLEAN"), field("t", "STRING"), field("d", "DATE"), field("ts", "TIMESTAMP"), field("dt", "DATETIME"), field("n", "NUMERIC"), field("by", "BYTES"),
	}}
	for i := range large {
		is.rows = append(is.rows, cells)
		if i%2 == 1 {
			is.rows[i] = make([]any, len(cells))
		}
	}
	s.answer, s.page = always(is), large
	schema := fields(
		arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}, arrow.Field{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true}, arrow.Field{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		arrow.Field{Name: "dt", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}, arrow.Field{Name: "n", Type: &arrow.Decimal128Type{Precision: 38, Scale: 9}, Nullable: true},
		arrow.Field{Name: "by", Type: arrow.BinaryTypes.Binary, Nullable: true},
	)
	fill := func(b *array.RecordBuilder, row int) {
		if row%2 == 1 {
			for _, f := range b.Fields() {
				f.AppendNull()
			}
			return
		}
		texts := []string{"-9223372036854775808", "1.5", "true", "æ 'q'\n", "2024-02-29", "2024-02-29T23:59:59.123456Z", "2024-02-29T23:59:59.123456", "-0.000000001"}
		for i, f := range b.Fields()[:8] {
			if err := f.AppendValueFromString(texts[i]); err != nil {
				t.Errorf("column %d: %v", i, err)
			}
		}
		b.Field(8).(*array.BinaryBuilder).Append([]byte("hej"))
	}
	want := []any{int64(-9223372036854775808), 1.5, true, "æ 'q'\n", day, at, at, "-0.000000001", "aGVq"}
	g := newReadServer(t, schema, large, fill)
	for _, endpoint := range []string{g.at, ""} {
		w := connect(t, s, map[string]any{"storage_api_endpoint": endpoint})
		rows, err := w.Query(t.Context(), "SELECT *")
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := rows.(*arrowRows); ok != (endpoint != "") {
			t.Fatalf("read by %T", rows)
		} else if ok {
			if _, inPlace := a.Cells(); inPlace {
				t.Error("a decimal has no text in place")
			}
		}
		n := 0
		for ; rows.Next(); n++ {
			v, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			for i := range v {
				if n%2 == 1 && v[i] != nil || n%2 == 0 && v[i] != want[i] {
					t.Fatalf("by %T, row %d, column %d: %#v", rows, n, i, v[i])
				}
			}
		}
		if rows.Err() != nil || n != large {
			t.Errorf("%d rows, %v", n, rows.Err())
		}
		_ = rows.Close()
	}

	// The same without the columns that are no texts.
	is.schema, g.schema = is.schema[:7], fields(schema.Fields()[:7]...)
	for i := range is.rows {
		is.rows[i] = is.rows[i][:7]
	}
	g.fill = func(b *array.RecordBuilder, row int) {
		texts := []string{"-9223372036854775808", "1.5", "true", "æ 'q'\n", "2024-02-29", "2024-02-29T23:59:59.123456Z", "2024-02-29T23:59:59.123456"}
		for i, f := range b.Fields() {
			if row%2 == 1 {
				f.AppendNull()
			} else if err := f.AppendValueFromString(texts[i]); err != nil {
				t.Errorf("column %d: %v", i, err)
			}
		}
	}
	s.answer = always(is)
	w := connect(t, s, map[string]any{"storage_api_endpoint": g.at})
	rows, err := w.Query(t.Context(), "SELECT *")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	in, ok := rows.(warehouse.InPlace)
	if !ok {
		t.Fatalf("read by %T", rows)
	}
	c, ok := in.Cells()
	if !ok {
		t.Fatal("cannot be read in place")
	}
	n := 0
	for ; c.Next(); n++ {
		for i, column := range rows.Columns() {
			v := warehouse.Value(c, i, column.Kind)
			if n%2 == 1 && v != nil || n%2 == 0 && v != want[i] {
				t.Fatalf("row %d, column %d: %#v", n, i, v)
			}
		}
	}
	if rows.Err() != nil || n != large {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

// A result that is not read to its end leaves nothing running.
func TestStorageReadIsLeft(t *testing.T) {
	s := newServer(t)
	manyRows(s, large)
	schema := fields(arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true})
	g := newReadServer(t, schema, large, twoColumns)
	w := connect(t, s, map[string]any{"storage_api_endpoint": g.at})
	before := 0
	for i := range 20 {
		rows, err := w.Query(t.Context(), "SELECT i, t")
		if err != nil || !rows.Next() {
			t.Fatal(err)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 4 {
			before = runtime.NumGoroutine()
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before+5 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestCheckNamesTheReadSession(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	g := newReadServer(t, fields(), 0, nil)
	g.refuse = status.Error(codes.PermissionDenied, "request failed: the user does not have 'bigquery.readsessions.create' permission for 'projects/shop-project'")
	w := connect(t, s, map[string]any{"storage_api_endpoint": g.at})
	_, err := w.Check(t.Context(), "dray", nil, []warehouse.Table{{Schema: "raw", Name: "orders"}})
	if err == nil || !strings.Contains(err.Error(), "permission bigquery.readsessions.create is missing") || !strings.Contains(err.Error(), "grant roles/bigquery.readSessionUser") {
		t.Errorf("got %v", err)
	}
	if got := g.asked.GetReadSession().GetTable(); got != "projects/shop-project/datasets/raw/tables/orders" {
		t.Errorf("asked for %s", got)
	}
	g.refuse = status.Error(codes.InvalidArgument, "request failed: the read session cannot be created for a view")
	if _, err := w.Check(t.Context(), "dray", nil, []warehouse.Table{{Schema: "raw", Name: "a_view"}}); err != nil {
		t.Errorf("got %v", err)
	}
}
