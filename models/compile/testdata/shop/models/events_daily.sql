select cast(ordered_at as date) as day, store_id, count(*) as orders
from {{ ref('orders_clean') }}
{% if is_incremental() %}
where cast(ordered_at as date) >= (select max(day) from {{ this }}) - interval 3 days
{% endif %}
group by all
