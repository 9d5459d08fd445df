-- A line is "customer_id date number_of_cds dollar_value". The customer's number keeps its leading zeros: it is a name.
with lines as (
  select string_split_regex(trim(line, e' \t\r'), '\s+') as parts
  from {{ source('cdnow', 'purchases') }} as raw(line)
)
select
  parts[1] as customer_id,
  cast(strptime(parts[2], '%Y%m%d') as date) as purchased_on,
  cast(parts[3] as integer) as cds,
  cast(parts[4] as decimal(10, 2)) as dollars
from lines
where parts[1] <> ''
