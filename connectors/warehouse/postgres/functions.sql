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

-- jaro_winkler is how alike two texts are, from 0 to 1. Of two that are alike by 0.7 or less it takes no notice of how they begin, as
-- other engines do.
CREATE OR REPLACE FUNCTION dray_functions.jaro_winkler(a text, b text) RETURNS double precision LANGUAGE plpgsql IMMUTABLE STRICT AS $f$
DECLARE
  x text[] := string_to_array(a, NULL);
  y text[] := string_to_array(b, NULL);
  nx int := length(a);
  ny int := length(b);
  reach int := greatest(greatest(length(a), length(b)) / 2 - 1, 0);
  met boolean[];
  found text[] := '{}';
  common int := 0;
  swapped int := 0;
  k int := 1;
  alike double precision;
BEGIN
  IF nx = 0 OR ny = 0 THEN
    RETURN 0;
  END IF;
  IF a = b THEN
    RETURN 1;
  END IF;
  met := array_fill(false, ARRAY[ny]);
  FOR i IN 1 .. nx LOOP
    FOR j IN greatest(1, i - reach) .. least(ny, i + reach) LOOP
      IF NOT met[j] AND x[i] = y[j] THEN
        met[j] := true;
        found := found || x[i];
        common := common + 1;
        EXIT;
      END IF;
    END LOOP;
  END LOOP;
  IF common = 0 THEN
    RETURN 0;
  END IF;
  FOR j IN 1 .. ny LOOP
    IF met[j] THEN
      IF found[k] <> y[j] THEN
        swapped := swapped + 1;
      END IF;
      k := k + 1;
    END IF;
  END LOOP;
  alike := (common::double precision / nx + common::double precision / ny + (common - swapped / 2)::double precision / common) / 3;
  IF alike > 0.7 THEN
    k := 0;
    WHILE k < least(4, nx, ny) AND x[k + 1] = y[k + 1] LOOP
      k := k + 1;
    END LOOP;
    alike := alike + k * 0.1 * (1 - alike);
  END IF;
  RETURN alike;
END $f$;
