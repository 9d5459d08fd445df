// Package file delivers to files: one file of changes a run, written beside its place and renamed when the run ends.
//
// The rename is the acknowledgement: until then no row counts as delivered (destination.Finisher), and a killed run leaves
// nothing but a hidden file that the next run of the sync takes away.
package file

import (
	"time"

	"github.com/dray-dev/dray/connectors/destination"
)

// Connector makes file destinations.
type Connector struct{}

// The formats.
const (
	jsonl   = "jsonl"
	csv     = "csv"
	parquet = "parquet"
)

// Spec declares the connector.
func (Connector) Spec() destination.Spec {
	applied := time.Duration(0)
	return destination.Spec{
		Type:    "file",
		Title:   "File",
		Summary: "Writes one file of changes a run: JSON lines, CSV or Parquet.",
		Config: []destination.Option{
			{
				Name: "path", Type: "string", Required: true, Example: "out",
				Doc: "The folder; a relative path starts at the project's directory. A run's file is `<path>/<sync>/<run_id>.<format>`.",
			},
			{
				Name: "format", Type: "string", Default: jsonl, Enum: []string{jsonl, csv, parquet},
				Doc: "`jsonl`: a change a line, as the webhook sends it. `csv`: columns operation, keys, fields, dedupe_id; NULL is empty and " +
					"an empty text is `\"\"`. `parquet`: the same columns, typed, compressed with Zstandard; decimals of unknown precision or over 38 digits are text.",
			},
		},
		Objects: []destination.Object{{
			Name: "*",
			Doc: "Any name. Every change has all fields. In csv and parquet a nested name is written with its dots, and a field named as a " +
				"key, or as operation or dedupe_id, has the prefix `fields.`. Every `on_remove` but `ignore` is a remove.",
			Modes:      []destination.Mode{destination.Upsert, destination.Update, destination.Insert, destination.Mirror},
			Removes:    []string{"delete", "clear", "set", "ignore"},
			Withdraw:   "delete",
			AnyRemove:  true,
			AnyKey:     true,
			OpenFields: true,
			MaxBatch:   5000,
			Replaces:   true,
			Mixed:      true,
		}},
		AnyObject:   true,
		OwnsObjects: true,
		Concurrency: 1,
		Settle:      &applied,
		Limits: []string{
			"A file is there whole or not at all: it is written under a hidden name, flushed to the disk and renamed when the run ends.",
			"A run without changes writes no file. An existing file is never replaced.",
		},
	}
}
