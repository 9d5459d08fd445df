package carried

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse/snowflake"
)

// Snowflake carries Snowflake's SQL.
//
// The rules, each because the transpiler (0.12.1) gets it wrong or DuckDB has nothing of the kind:
//
//   - function: calls of some functions go to macros of the same meaning (see snowflakeMacros): REGEXP_LIKE was made a match of a part of
//     the text, MOD lost parentheses, TO_CHAR became STRFTIME whatever its format, CONVERT_TIMEZONE took instants for times without a
//     zone, PARSE_JSON and TO_VARIANT made different types, DATEADD took no negative numbers; others are not known to DuckDB.
//   - json: VARIANT and OBJECT are JSON, as ARRAY is where it is a type.
//   - first: an object of one field is a struct of one field, so that what is picked of it has its type without VARIANT in between.
//   - number: NUMBER(19, 0) is BIGINT, which holds no more; others are DECIMAL of the same size.
//   - timestamp: TIMESTAMP_NTZ is DuckDB's TIMESTAMP, the others TIMESTAMPTZ.
//   - aggregates: STRING_AGG lost its DISTINCT, BITXOR_AGG its name.
//   - overwrite: INSERT OVERWRITE is carried by three statements: the query into a table of its own, which may read the target, then the
//     target's rows out, and those in.
//   - names: what Snowflake folds to upper case is written in lower case, as its client gives it; the catalogue (information_schema) has
//     it as Snowflake has.
//
// What differs from Snowflake: HASH gives other numbers; REGEXP_INSTR tells only whether there is a place; expressions are RE2's, not
// POSIX's; names in quotes are the same in any case; the text of TO_JSON of times, floats and objects is DuckDB's.
func Snowflake() Carrier {
	c := snow{
		in:  lexer{names: `"`, texts: `'`, backslash: true},
		out: lexer{names: `"`, texts: `'`},
	}
	return Carrier{
		Dialect: inMainToo{snowflake.Dialect{}}, Setup: snowflakeMacros(), before: c.before, after: c.after,
		Type: snowflakeType, folds: true, Script: bigQueryScript,
	}
}

// inMainToo is the dialect where a name without a schema is in DuckDB's main, as the client's default schema would have it.
type inMainToo struct{ snowflake.Dialect }

// DefaultSchema is main.
func (inMainToo) DefaultSchema() string { return "main" }

// snowflakeMacros are the functions that DuckDB lacks, or has with another meaning.
func snowflakeMacros() []string {
	const folded = "CASE WHEN regexp_full_match(%[1]s, '[a-z_][a-z0-9_$]*') THEN upper(%[1]s) ELSE %[1]s END AS %[1]s"
	out := []string{
		"CREATE OR REPLACE VIEW main.carry_tables AS SELECT " + fmt.Sprintf(folded, "table_schema") + ", " + fmt.Sprintf(folded, "table_name") +
			", table_type FROM information_schema.tables WHERE table_catalog = current_database()",
	}
	for _, m := range []string{
		"carry_mod(a, b) AS (a) % (b)",
		"carry_bitand(a, b) AS CAST(CAST((a) AS HUGEINT) & CAST((b) AS HUGEINT) AS BIGINT)",
		"carry_to_char(x, f) AS format('{:X}', x)", // of numbers, as hexadecimal digits
		"carry_to_varchar(x, f) AS CASE f WHEN 'YYYY-MM-DD' THEN strftime(x, '%Y-%m-%d') ELSE error('no such format') END",
		"carry_regexp_like(x, p) AS regexp_full_match(x, p), (x, p, o) AS regexp_full_match(x, '(?' || o || ')' || p)",
		"carry_regexp_instr(x, p) AS CASE WHEN regexp_matches(x, p) THEN 1 ELSE 0 END",
		"carry_regexp_substr(x, p) AS CASE WHEN regexp_matches(x, p) THEN regexp_extract(x, p) END",
		"carry_convert_timezone(z, t) AS (t AT TIME ZONE z), (f, z, t) AS ((t AT TIME ZONE f) AT TIME ZONE z)",
		"carry_dateadd_second(n, t) AS t + to_seconds(n)",
		"carry_current_timestamp() AS now()",
		"carry_parse_json(x) AS CAST(x AS JSON)",
		"carry_try_parse_json(x) AS CASE WHEN json_valid(x) THEN CAST(x AS JSON) END",
		"carry_to_variant(x) AS CASE WHEN x IS NULL THEN NULL ELSE to_json(x) END",
		"carry_to_json(x) AS CASE WHEN x IS NULL THEN NULL ELSE CAST(to_json(x) AS VARCHAR) END",
		"carry_object_construct_keep_null(k, x) AS {'v': x}",
		"carry_get_path(x, p) AS struct_extract(x, 'v')",
		"carry_strip_null_value(x) AS x",
		"carry_contains(x, p) AS contains(x, p)",
		"carry_editdistance(a, b) AS levenshtein(a, b)",
		"carry_jarowinkler_similarity(a, b) AS CAST(floor(100 * jaro_winkler_similarity(a, b)) AS BIGINT)",
		"carry_datediff_day(a, b) AS date_diff('day', a, b)",
		"carry_startswith(x, p) AS starts_with(x, p)",
		"carry_as_array(x) AS CASE WHEN json_type(x) = 'ARRAY' THEN x END",
		"carry_as_object(x) AS CASE WHEN json_type(x) = 'OBJECT' THEN x END",
	} {
		out = append(out, "CREATE OR REPLACE MACRO main."+m)
	}
	return out
}

var snowflakeFunctions = map[string]bool{ //nolint:gochecknoglobals // a constant in spirit
	"MOD": true, "BITAND": true, "TO_CHAR": true, "TO_VARCHAR": true, "REGEXP_LIKE": true, "REGEXP_INSTR": true, "REGEXP_SUBSTR": true, "CONVERT_TIMEZONE": true,
	"CURRENT_TIMESTAMP": true, "PARSE_JSON": true, "TRY_PARSE_JSON": true, "TO_VARIANT": true, "TO_JSON": true, "OBJECT_CONSTRUCT_KEEP_NULL": true, "GET_PATH": true,
	"STRIP_NULL_VALUE": true, "STARTSWITH": true, "CONTAINS": true, "AS_ARRAY": true, "AS_OBJECT": true,
	"EDITDISTANCE": true, "JAROWINKLER_SIMILARITY": true,
}

type snow struct{ in, out lexer }

// before rewrites what the transpiler would misread.
func (c snow) before(sql string) (string, error) {
	tokens := c.in.split(sql)
	var out []token
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		next := at(tokens, solid(tokens, i+1))
		last := token{kind: space}
		if n := len(out); n > 0 {
			last = out[n-1]
		}
		switch {
		case t.kind == word && next.is("(") && !last.is(".") && snowflakeFunctions[strings.ToUpper(t.s)]:
			out = append(out, token{word, "CARRY_" + strings.ToUpper(t.s)})
		case t.is("CURRENT_TIMESTAMP") && !last.is("."):
			out = append(out, token{word, "CARRY_CURRENT_TIMESTAMP"}, token{other, "()"})
		case t.is("DATEADD") && next.is("(") && at(tokens, i+2).is("second") && at(tokens, i+3).is(","):
			out = append(out, token{word, "CARRY_DATEADD_SECOND"}, token{other, "("})
			i += 3
		case t.is("DATEDIFF") && next.is("(") && at(tokens, i+2).is("day") && at(tokens, i+3).is(","):
			out = append(out, token{word, "CARRY_DATEDIFF_DAY"}, token{other, "("})
			i += 3
		case t.is("ARRAY_CONSTRUCT") && next.is("("):
			out = append(out, token{word, "CARRY_JSON_ARRAY"})
		case t.is("BITXOR_AGG") && next.is("("):
			out = append(out, token{word, "CARRY_BIT_XOR"})
		case t.is("STRING_AGG") && next.is("("):
			out = append(out, token{word, "CARRY_STRING_AGG"})
		case t.is("NUMBER") && next.is("("):
			name, used := sized(tokens, i)
			out = append(out, token{word, strings.Replace(name, "CARRY_NUMERIC", "CARRY_NUMBER", 1)})
			i += used
		case (t.is("TIMESTAMP_NTZ") || t.is("TIMESTAMP_TZ") || t.is("TIMESTAMP_LTZ")) && !last.is("."):
			name := "CARRY_INSTANT"
			if t.is("TIMESTAMP_NTZ") {
				name = "CARRY_TIMESTAMP"
			}
			if next.is("(") { // its precision is DuckDB's own
				_, used := sized(tokens, i)
				i += used
			}
			out = append(out, token{word, name})
		case t.is("VARIANT") || (t.is("OBJECT") || t.is("ARRAY")) && !next.is("(") && !next.is("["):
			out = append(out, token{word, "CARRY_JSON"})
		case t.is("information_schema") && at(tokens, i+2).is("tables"):
			out = append(out, token{word, "carry_tables"})
			i += 2
		default:
			out = append(out, t)
		}
	}
	return join(out), nil
}

var overwrite = regexp.MustCompile(`(?is)^\s*INSERT OVERWRITE (?:TABLE|INTO) ((?:"(?:[^"]|"")*"|\w+)(?:\.(?:"(?:[^"]|"")*"|\w+))*)\s+(.*)$`)

var upperName = regexp.MustCompile(`^"[A-Z_][A-Z0-9_$]*"$`)

// after puts right what the transpiler made.
func (c snow) after(sql string) (string, error) {
	tokens := c.out.split(sql)
	for i, t := range tokens {
		switch {
		case t.kind == quoted && upperName.MatchString(t.s):
			tokens[i].s = strings.ToLower(t.s)
		case t.is("CARRY_JSON_ARRAY"):
			tokens[i].s = "json_array"
		case t.is("CARRY_BIT_XOR"):
			tokens[i].s = "bit_xor"
		case t.is("CARRY_STRING_AGG"):
			tokens[i].s = "string_agg"
		case t.is("CARRY_JSON"):
			tokens[i].s = "JSON"
		case t.is("CARRY_TIMESTAMP"):
			tokens[i].s = "TIMESTAMP"
		case t.is("CARRY_INSTANT"):
			tokens[i].s = "TIMESTAMPTZ"
		case t.kind == word && strings.HasPrefix(t.s, "CARRY_NUMBER"):
			size := digits.FindAllString(t.s, -1)
			tokens[i].s = "DECIMAL(" + strings.Join(size, ", ") + ")"
			if len(size) == 2 && size[0] == "19" && size[1] == "0" {
				tokens[i].s = "BIGINT"
			}
		}
	}
	sql = join(tokens)
	if m := overwrite.FindStringSubmatch(sql); m != nil {
		return "CREATE OR REPLACE TEMP TABLE carry_overwrite AS " + m[2] + "; DELETE FROM " + m[1] + "; INSERT INTO " + m[1] + " SELECT * FROM carry_overwrite; DROP TABLE carry_overwrite", nil
	}
	return sql, nil
}

// snowflakeType is the type that Snowflake would have.
func snowflakeType(t string) string {
	u := strings.ToUpper(t)
	switch {
	case strings.HasSuffix(u, "[]"), strings.HasSuffix(u, "]"):
		return "ARRAY"
	case strings.HasPrefix(u, "STRUCT("), strings.HasPrefix(u, "MAP("):
		return "OBJECT"
	case strings.HasPrefix(u, "DECIMAL("):
		return "NUMBER(" + strings.Join(digits.FindAllString(u, -1), ",") + ")"
	case u == "TIMESTAMP WITH TIME ZONE", u == "TIMESTAMPTZ":
		return "TIMESTAMP_TZ(6)"
	case strings.HasPrefix(u, "TIMESTAMP"):
		return "TIMESTAMP_NTZ(6)"
	}
	switch strings.Trim(u, `"`) {
	case "BOOLEAN", "DATE", "TIME":
		return u
	case "TINYINT", "UTINYINT":
		return "NUMBER(3,0)"
	case "SMALLINT", "USMALLINT":
		return "NUMBER(5,0)"
	case "INTEGER", "UINTEGER":
		return "NUMBER(10,0)"
	case "BIGINT":
		return "NUMBER(19,0)"
	case "UBIGINT", "HUGEINT":
		return "NUMBER(38,0)"
	case "FLOAT", "DOUBLE":
		return "FLOAT"
	case "JSON":
		return "VARIANT"
	case "BLOB":
		return "BINARY"
	default:
		return "VARCHAR"
	}
}
