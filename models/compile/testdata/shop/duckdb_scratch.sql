-- source.raw.Customers: "lake"."landing"."Customers"

-- source.shop.orders: read_csv('$DIR/data/orders.csv', header = true)

-- source.shop.stores: read_csv('$DIR/data/stores.csv', header = true, delim = ';', types = {'postcode': 'VARCHAR'})

-- model.orders_clean: table "dray_scratch"."orders_clean"
-- One row an order.
select
  order_id,
  store_id,
  lower(status) as status,
  round(amount_cents / 100.0, 2) as amount,
  ordered_at
from read_csv('$DIR/data/orders.csv', header = true)
where status in ('open', 'closed')
  and order_id > 0;
-- test unique(order_id), after []
SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM "dray_scratch"."orders_clean" m WHERE m."order_id" IS NOT NULL GROUP BY m."order_id" HAVING count(*) > 1) d;
-- test unique(store_id, order_id), after []
SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM "dray_scratch"."orders_clean" m WHERE m."store_id" IS NOT NULL AND m."order_id" IS NOT NULL GROUP BY m."store_id", m."order_id" HAVING count(*) > 1) d;
-- test not_null(amount), after []
SELECT count(*) FROM "dray_scratch"."orders_clean" m WHERE m."amount" IS NULL;
-- test accepted_values(status), after []
SELECT count(*) FROM "dray_scratch"."orders_clean" m WHERE m."status" IS NOT NULL AND NOT CAST(m."status" AS VARCHAR) IN ('open', 'closed', 'it''s lost');
-- test relationships(store_id, stores.store_id), after [model.stores]
SELECT count(*) FROM "dray_scratch"."orders_clean" m WHERE m."store_id" IS NOT NULL AND NOT EXISTS (SELECT 1 FROM read_csv('$DIR/data/stores.csv', header = true, delim = ';', types = {'postcode': 'VARCHAR'}) o WHERE o."store_id" = m."store_id");
-- test sql 1, after []
SELECT count(*) FROM (select * from "dray_scratch"."orders_clean" where amount < 0  -- none
) d;

-- model.stores: read_csv('$DIR/data/stores.csv', header = true, delim = ';', types = {'postcode': 'VARCHAR'})

-- sync.lake_to_hook: 
SELECT p.* FROM "lake"."landing"."Customers" p;
-- key 1 id: "customer_id"

-- model.by_store: view "dray_scratch"."by_store"
select s.store_id, s.postcode, count(*) as orders, max(o.ordered_at) as last_order_at, TIMESTAMP '2026-01-02 03:04:05' as computed_at
from read_csv('$DIR/data/stores.csv', header = true, delim = ';', types = {'postcode': 'VARCHAR'}) s
join "dray_scratch"."orders_clean" o using (store_id)
group by all;

-- model.events_daily: incremental "dray_scratch"."events_daily"
select cast(ordered_at as date) as day, store_id, count(*) as orders
from "dray_scratch"."orders_clean"

where cast(ordered_at as date) >= (select max(day) from "dray"."events_daily") - interval 3 days

group by all;

-- sync.stores_to_hook: 
SELECT r.* FROM (SELECT p.* FROM "dray_scratch"."by_store" p) r WHERE coalesce((orders >= 10
), FALSE);
-- key 1 id: "store_id"
-- key 2 postcode: "postcode"
-- field orders: "orders"
-- field address.postcode: "postcode"
-- field source: 'dray'
-- field big: (orders > 10 * 10 -- large
)

