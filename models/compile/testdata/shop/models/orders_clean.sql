-- One row an order.
select
  order_id,
  store_id,
  {{ lowered('status') }} as status,
  {{ cents('amount_cents') }} as amount,
  ordered_at
from {{ source('shop', 'orders') }}
where status in ('{{ var('statuses') | join("', '") }}')
  {%- if target.name != 'prod' %}
  and order_id > 0
  {%- endif %};
