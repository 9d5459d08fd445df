-- What PostgreSQL lacks. Each is replaced by a later Dray only with the same meaning.
CREATE OR REPLACE FUNCTION dray_functions.try_cast(v text, INOUT result anyelement, as_type text) LANGUAGE plpgsql IMMUTABLE AS $f$
BEGIN
  EXECUTE format('SELECT CAST($1 AS %s)', as_type) INTO result USING v; -- pg_typeof has no length
EXCEPTION WHEN OTHERS THEN
  result := NULL;
END $f$;

CREATE OR REPLACE FUNCTION dray_functions.norm_date(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $f$
DECLARE m text[];
BEGIN
  m := regexp_match(v, '^(\d{4})([-/])(\d{1,2})\2(\d{1,2})(?:[ T].*)?$');
  IF m IS NOT NULL THEN
    RETURN make_date(m[1]::int, m[3]::int, m[4]::int)::text;
  END IF;
  m := regexp_match(v, '^(\d{4})(\d{2})(\d{2})$');
  IF m IS NOT NULL THEN
    RETURN make_date(m[1]::int, m[2]::int, m[3]::int)::text;
  END IF;
  m := regexp_match(v, '^(\d{1,2})([-./])(\d{1,2})\2(\d{4})$');
  IF m IS NOT NULL THEN
    RETURN make_date(m[4]::int, m[3]::int, m[1]::int)::text;
  END IF;
  RETURN NULL;
EXCEPTION WHEN datetime_field_overflow THEN
  RETURN NULL;
END $f$;

-- put_in_place gives the table beside the other's name. Where something of somebody else's stands on the old table and the columns
-- are the same, the rows move instead.
CREATE OR REPLACE FUNCTION dray_functions.put_in_place(in_schema text, old_name text, new_name text) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  old_id oid := to_regclass(format('%I.%I', in_schema, old_name));
  new_id oid := to_regclass(format('%I.%I', in_schema, new_name));
  kind "char";
BEGIN
  IF old_id IS NOT NULL THEN
    SELECT relkind INTO kind FROM pg_class WHERE oid = old_id;
    IF kind = 'v' THEN
      EXECUTE format('DROP VIEW %I.%I CASCADE', in_schema, old_name);
    ELSIF kind = 'm' THEN
      EXECUTE format('DROP MATERIALIZED VIEW %I.%I CASCADE', in_schema, old_name);
    ELSIF EXISTS (SELECT 1 FROM pg_depend d WHERE d.refobjid = old_id AND d.classid = 'pg_rewrite'::regclass)
      AND NOT EXISTS (
        (SELECT attname, atttypid, atttypmod, attnum FROM pg_attribute WHERE attrelid = old_id AND attnum > 0 AND NOT attisdropped)
        EXCEPT (SELECT attname, atttypid, atttypmod, attnum FROM pg_attribute WHERE attrelid = new_id AND attnum > 0))
      AND NOT EXISTS (
        (SELECT attname, atttypid, atttypmod, attnum FROM pg_attribute WHERE attrelid = new_id AND attnum > 0)
        EXCEPT (SELECT attname, atttypid, atttypmod, attnum FROM pg_attribute WHERE attrelid = old_id AND attnum > 0 AND NOT attisdropped))
    THEN
      EXECUTE format('TRUNCATE %I.%I', in_schema, old_name);
      EXECUTE format('INSERT INTO %I.%I SELECT * FROM %I.%I', in_schema, old_name, in_schema, new_name);
      EXECUTE format('DROP TABLE %I.%I', in_schema, new_name);
      RETURN;
    ELSE
      EXECUTE format('DROP TABLE %I.%I CASCADE', in_schema, old_name);
    END IF;
  END IF;
  EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', in_schema, new_name, old_name);
  -- A table that was just made has no statistics until the daemon comes by, and joins are planned without.
  IF pg_relation_size(new_id) > 1048576 THEN
    EXECUTE format('ANALYZE %I.%I', in_schema, old_name);
  END IF;
END $f$;

-- make_room_for_view drops a table where a view is to stand.
CREATE OR REPLACE FUNCTION dray_functions.make_room_for_view(in_schema text, name text) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass(format('%I.%I', in_schema, name)) AND relkind IN ('r', 'p')) THEN
    EXECUTE format('DROP TABLE %I.%I CASCADE', in_schema, name);
  END IF;
END $f$;
