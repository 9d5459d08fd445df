{% macro cents(column, scale=2) -%} round({{ column }} / 100.0, {{ scale }}) {%- endmacro %}
{% macro lowered(column) %}lower({{ column }}){% endmacro %}
