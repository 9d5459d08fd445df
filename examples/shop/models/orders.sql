-- Payments are in cents, several to an order.
with paid as (
  select order_id, sum(amount) as cents
  from {{ source('shop', 'payments') }}
  group by order_id
)
select
  o.id as order_id,
  o.user_id as customer_id,
  o.order_date as ordered_at,
  o.status,
  cast(coalesce(p.cents, 0) / 100.0 as decimal(12, 2)) as amount
from {{ source('shop', 'orders') }} as o
left join paid as p on p.order_id = o.id
