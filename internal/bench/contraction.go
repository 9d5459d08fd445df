package main

import (
	"context"
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// contract is randomised contraction (arXiv 1802.09478) as bare SQL, the best set-based method known for DuckDB: in each round
// every node takes the smallest hash in its closed neighbourhood as its new name, and edges inside a name disappear. Because the
// names are hashes, every round orders them anew. A last pass back through the rounds gives each first node its last name.
//
// It reads raw.edges(a, b) and writes raw.components(node, component) for the nodes that have edges.
func contract(ctx context.Context, w warehouse.Warehouse) (rounds int, err error) {
	if _, err := w.Exec(ctx, "CREATE OR REPLACE TEMP TABLE e0 AS SELECT a, b FROM raw.edges WHERE a <> b UNION ALL SELECT b, a FROM raw.edges WHERE a <> b"); err != nil {
		return 0, err
	}
	for ; ; rounds++ {
		left, err := count(ctx, w, fmt.Sprintf("SELECT count(*) FROM e%d", rounds))
		if err != nil {
			return rounds, err
		}
		if left == 0 {
			break
		}
		if err := contractOnce(ctx, w, rounds); err != nil {
			return rounds, err
		}
	}
	return rounds, expand(ctx, w, rounds)
}

func contractOnce(ctx context.Context, w warehouse.Warehouse, i int) error {
	for _, statement := range []string{
		fmt.Sprintf("CREATE OR REPLACE TEMP TABLE r%[1]d AS SELECT a AS node, least(hash(a), min(hash(b))) AS name FROM e%[1]d GROUP BY a", i),
		fmt.Sprintf(`CREATE OR REPLACE TEMP TABLE e%[2]d AS SELECT DISTINCT x.name AS a, y.name AS b FROM e%[1]d e
			JOIN r%[1]d x ON x.node = e.a JOIN r%[1]d y ON y.node = e.b WHERE x.name <> y.name`, i, i+1),
		fmt.Sprintf("DROP TABLE e%d", i),
	} {
		if _, err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// expand carries the names of the last round back to the nodes of the first.
func expand(ctx context.Context, w warehouse.Warehouse, rounds int) error {
	for i := rounds - 2; i >= 0; i-- {
		if _, err := w.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE TEMP TABLE r%[1]d AS SELECT r.node, coalesce(s.name, r.name) AS name
			FROM r%[1]d r LEFT JOIN r%[2]d s ON s.node = r.name`, i, i+1)); err != nil {
			return err
		}
	}
	_, err := w.Exec(ctx, "CREATE OR REPLACE TABLE raw.components AS SELECT node, name AS component FROM r0")
	return err
}

// count is a query's one number.
func count(ctx context.Context, w warehouse.Warehouse, query string) (int64, error) {
	rows, err := w.Query(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var n int64
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return 0, err
		}
		n, _ = values[0].(int64)
	}
	return n, rows.Err()
}
