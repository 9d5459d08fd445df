select
  customer_id,
  count(*) as purchases,
  cast(sum(cds) as bigint) as cds,
  sum(dollars) as spend,
  max(purchased_on) as last_purchase_on
from {{ ref('purchases') }}
group by customer_id
