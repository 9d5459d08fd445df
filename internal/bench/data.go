package main

import (
	"context"
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// valueColumns are the twelve fields of the wide table, of the types that models have.
func valueColumns() []string {
	return []string{"first_name", "last_name", "city", "country", "phone", "plan", "orders", "spend", "score", "vip", "last_order_at", "updated_at"}
}

// makeCustomers fills raw.customers with n rows: id, email and the twelve fields. Every value is a function of the id.
func makeCustomers(ctx context.Context, w warehouse.Warehouse, n int) error {
	if _, err := w.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS raw"); err != nil {
		return err
	}
	_, err := w.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE TABLE raw.customers AS SELECT
		i AS id,
		CASE WHEN i %% 3 = 0 THEN 'User' ELSE 'user' END || i || '@Example.com' AS email,
		'name' || (hash(i) %% 5000) AS first_name,
		'family' || (hash(i + 1) %% 50000) AS last_name,
		'city ' || (hash(i + 2) %% 300) AS city,
		['DK','SE','NO','DE','FI'][1 + (hash(i + 3) %% 5)::INT] AS country,
		CASE WHEN i %% 4 = 0 THEN NULL ELSE '+4520' || lpad((i %% 1000000)::VARCHAR, 6, '0') END AS phone,
		['free','base','gold'][1 + (hash(i + 4) %% 3)::INT] AS plan,
		(hash(i + 5) %% 40)::INTEGER AS orders,
		((hash(i + 6) %% 100000) / 100.0)::DECIMAL(12,2) AS spend,
		(hash(i + 7) %% 1000) / 1000.0::DOUBLE AS score,
		hash(i + 8) %% 10 = 0 AS vip,
		DATE '2026-01-01' - (hash(i + 9) %% 900)::INTEGER AS last_order_at,
		TIMESTAMP '2026-01-01 00:00:00' - INTERVAL 1 SECOND * (hash(i + 10) %% 10000000)::BIGINT AS updated_at
		FROM range(%d) r(i)`, n))
	return err
}

// changeCustomers changes one field in one row of a hundred.
func changeCustomers(ctx context.Context, w warehouse.Warehouse) error {
	_, err := w.Exec(ctx, "UPDATE raw.customers SET spend = spend + 1 WHERE id % 100 = 17")
	return err
}
