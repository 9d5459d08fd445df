package bigquery

import (
	"context"
	"errors"

	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/dray-dev/dray/connectors/warehouse"
)

type reader struct{}

func newReader(context.Context, *options, []option.ClientOption) (*reader, error) { return nil, nil }

func (r *reader) close() {}

func (r *reader) open(context.Context, *Warehouse, *bq.Job, uint64, []warehouse.Column) (warehouse.Rows, error) {
	return nil, errors.New("todo")
}
