package carried

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/bigquery"
)

// BigQuery carries GoogleSQL.
//
// The rules, each because the transpiler (0.12.1) gets it wrong or DuckDB has nothing of the kind:
//
//   - function: calls of some functions go to macros of the same meaning (see bigQueryMacros): REGEXP_CONTAINS was made a match of the
//     whole text, REGEXP_REPLACE replaced once only, MOD and DIV lost parentheses, SAFE.PARSE_… were left as they are, MD5 was made
//     text, FARM_FINGERPRINT and others are not known to DuckDB.
//   - timestamp: the type TIMESTAMP, an instant, was made DuckDB's TIMESTAMP, which has no zone, outside of literals.
//   - numeric: NUMERIC was made DECIMAL, which is DECIMAL(18, 3) to DuckDB, and DECIMAL(38, 9) lost its digits in casts.
//   - safe_cast: SAFE_CAST was left as it is where it is an argument of a function.
//   - offset: [SAFE_OFFSET(n)] was left as it is before a field; LIMIT 1 in an ARRAY_AGG of which only the first element is taken is
//     left out, for DuckDB has none there.
//   - escapes: a character by its number (\u, \U, octal) was left as it is written.
//   - insert row: INSERT ROW of a MERGE is INSERT to DuckDB.
//   - information_schema: the catalogue of a dataset is DuckDB's, of that schema.
//   - null order: NULL is the least value unless said otherwise; a setting of DuckDB.
//
// What differs from BigQuery: FARM_FINGERPRINT gives other numbers, NORMALIZE(…, NFD) takes the marks off itself, the text of
// TO_JSON_STRING of times and floats is DuckDB's, integers overflow to 128 bits in sums.
func BigQuery() Carrier {
	c := bigQuery{
		in:  lexer{names: "`", texts: `'"`, backslash: true},
		out: lexer{names: `"`, texts: `'`},
	}
	return Carrier{
		Dialect: inMain{bigquery.Dialect{}}, Setup: bigQueryMacros(), before: c.before, after: c.after,
		Type: bigQueryType, Script: bigQueryScript,
	}
}

// inMain is the dialect where a name without a dataset is in DuckDB's main, as the client's default dataset would have it.
type inMain struct{ bigquery.Dialect }

// DefaultSchema is main.
func (inMain) DefaultSchema() string { return "main" }

// bigQueryMacros are the functions that DuckDB lacks.
func bigQueryMacros() []string {
	macros := []string{
		"farm_fingerprint(x) AS CAST(CAST(hash(x) AS HUGEINT) - 9223372036854775808 AS BIGINT)",
		"carry_mod(a, b) AS (a) % (b)",
		"carry_div(a, b) AS (a) // (b)",
		"carry_regexp_contains(x, p) AS regexp_matches(x, p)",
		"carry_regexp_replace(x, p, r) AS regexp_replace(x, p, r, 'g')",
		"carry_regexp_extract(x, p) AS CASE WHEN regexp_matches(x, p) THEN regexp_extract(x, p) END",
		"carry_normalize(x, form) AS CASE form WHEN 'NFC' THEN nfc_normalize(x) WHEN 'NFD' THEN strip_accents(nfc_normalize(x)) ELSE error('no such form') END",
		"carry_parse_date(f, x) AS CAST(strptime(x, f) AS DATE)",
		"carry_safe_parse_date(f, x) AS CAST(try_strptime(x, f) AS DATE)",
		"carry_safe_parse_json(x) AS CASE WHEN json_valid(x) THEN CAST(x AS JSON) END",
		"carry_edit_distance(a, b) AS levenshtein(a, b)",
		"carry_md5(x) AS unhex(md5(x))",
		"carry_to_hex(x) AS lower(hex(x))",
		"carry_to_json_string(x) AS CASE WHEN x IS NULL THEN 'null' ELSE CAST(to_json(x) AS VARCHAR) END",
	}
	out := []string{
		"SET GLOBAL default_null_order = 'nulls_first_on_asc_last_on_desc'",
		"CREATE OR REPLACE VIEW main.carry_tables AS SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_catalog = current_database()",
	}
	for _, m := range macros {
		out = append(out, "CREATE OR REPLACE MACRO main."+m)
	}
	return out
}

func bigQueryFunction(name string) (string, bool) {
	switch name := strings.ToUpper(name); name {
	case "MOD", "DIV", "REGEXP_CONTAINS", "REGEXP_REPLACE", "REGEXP_EXTRACT", "NORMALIZE", "PARSE_DATE", "TO_JSON_STRING", "MD5", "TO_HEX", "EDIT_DISTANCE":
		return "CARRY_" + name, true
	case "FORMAT":
		return "PRINTF", true
	}
	return "", false
}

type bigQuery struct{ in, out lexer }

// before rewrites what the transpiler would misread.
func (c bigQuery) before(sql string) (string, error) {
	tokens := c.in.split(sql)
	var out []token
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		next := at(tokens, solid(tokens, i+1))
		switch {
		case t.is("SAFE") && next.is("."):
			name := at(tokens, i+2)
			renamed, ok := bigQueryFunction(name.s)
			if strings.EqualFold(name.s, "PARSE_JSON") {
				renamed, ok = "CARRY_PARSE_JSON", true
			}
			if !ok {
				return "", fmt.Errorf("SAFE.%s has no macro", name.s)
			}
			out = append(out, token{word, strings.Replace(renamed, "CARRY_", "CARRY_SAFE_", 1)})
			i += 2
		case t.kind == word && next.is("(") && !at(tokens, i-1).is("."):
			if renamed, ok := bigQueryFunction(t.s); ok {
				t.s = renamed
			}
			if t.is("NUMERIC") || t.is("DECIMAL") || t.is("BIGNUMERIC") {
				name, used := sized(tokens, i)
				out = append(out, token{word, name})
				i += used
				continue
			}
			out = append(out, t)
		case (t.is("NFC") || t.is("NFD")) && next.is(")"):
			out = append(out, token{text, "'" + strings.ToUpper(t.s) + "'"})
		case t.is("TIMESTAMP") && next.kind != text:
			out = append(out, token{word, "CARRY_TIMESTAMP"})
		case (t.is("NUMERIC") || t.is("DECIMAL") || t.is("BIGNUMERIC")) && next.kind != text:
			out = append(out, token{word, "CARRY_NUMERIC_38_9"})
		case t.is("INFORMATION_SCHEMA") && len(out) >= 2 && at(tokens, i+2).is("TABLES"):
			schema := out[len(out)-2]
			out = append(out[:len(out)-2], token{other, "(SELECT table_schema, table_name, table_type FROM carry_tables WHERE LOWER(table_schema) = LOWER('" + strings.Trim(schema.s, "`") + "'))"})
			i += 2
		case t.kind == text && !at(tokens, i-1).is("r") && !at(tokens, i-1).is("b"):
			out = append(out, token{text, unescaped(t.s)})
		default:
			out = append(out, t)
		}
	}
	return join(out), nil
}

var escapes = regexp.MustCompile(`\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)`)

// unescaped is a literal text without the escapes that the transpiler leaves as they are: a character's number.
func unescaped(literal string) string {
	return escapes.ReplaceAllStringFunc(literal, func(e string) string {
		base := 16
		switch {
		case e[1] >= '0' && e[1] <= '3':
			base = 8
			e = "\\u" + e[1:]
		case e[1] != 'u' && e[1] != 'U' || len(e) < 6:
			return e
		}
		n, err := strconv.ParseInt(e[2:], base, 32)
		if c := rune(n); err == nil && c >= ' ' && c != '\'' && c != '"' && c != '\\' {
			return string(c)
		}
		return fmt.Sprintf(`\x%02x`, n)
	})
}

var digits = regexp.MustCompile(`[0-9]+`)

// sized is a name for NUMERIC(p, s) that the transpiler leaves alone, and how many tokens follow that it stands for.
func sized(tokens []token, i int) (name string, used int) {
	name = "CARRY_NUMERIC"
	for n := i + 1; n < len(tokens); n++ {
		if digits.MatchString(tokens[n].s) {
			name += "_" + tokens[n].s
		}
		if tokens[n].is(")") {
			return name, n - i
		}
	}
	return name, len(tokens) - 1 - i
}

// after puts right what the transpiler made.
func (c bigQuery) after(sql string) (string, error) {
	tokens := c.out.split(sql)
	var out []token
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch {
		case t.is("CARRY_TIMESTAMP"):
			t.s = "TIMESTAMPTZ"
		case t.is("SAFE_CAST"):
			t.s = "TRY_CAST"
		case t.is("ROW") && at(tokens, i-2).is("INSERT"):
			continue
		case t.kind == word && strings.HasPrefix(t.s, "CARRY_NUMERIC"):
			size := digits.FindAllString(t.s, -1)
			t.s = "DECIMAL(" + strings.Join(size, ", ") + ")"
		case t.is("LIMIT") && at(tokens, i+2).is("1") && at(tokens, i+3).is(")") && at(tokens, i+4).is("["):
			i += 2 // of an ARRAY_AGG whose first element alone is taken
			continue
		case t.is("SAFE_OFFSET") || t.is("OFFSET"):
			if at(tokens, i-1).is("[") && at(tokens, i+1).is("(") && at(tokens, i+3).is(")") {
				if !tokens[i+2].is("0") {
					return "", errors.New("an offset that is not 0")
				}
				out = append(out, token{other, "1"})
				i += 3
				continue
			}
		}
		out = append(out, t)
	}
	return join(out), nil
}

// bigQueryType is the type that BigQuery would have.
func bigQueryType(t string) string {
	u := strings.ToUpper(t)
	switch {
	case strings.HasSuffix(u, "[]"):
		return "ARRAY<" + bigQueryType(t[:len(t)-2]) + ">"
	case strings.HasPrefix(u, "STRUCT("):
		return bigQueryStruct(t)
	case strings.HasPrefix(u, "DECIMAL("):
		return bigQueryNumeric(digits.FindAllString(u, -1))
	case u == "TIMESTAMP WITH TIME ZONE", u == "TIMESTAMPTZ":
		return "TIMESTAMP"
	case strings.HasPrefix(u, "TIMESTAMP"):
		return "DATETIME"
	}
	switch strings.Trim(u, `"`) {
	case "BOOLEAN":
		return "BOOL"
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "NULL":
		return "INT64"
	case "FLOAT", "DOUBLE":
		return "FLOAT64"
	case "DATE", "TIME", "JSON", "INTERVAL":
		return u
	case "BLOB":
		return "BYTES"
	default:
		return "STRING"
	}
}

func bigQueryNumeric(size []string) string {
	switch {
	case len(size) == 2 && size[0] == "38" && size[1] == "9":
		return "NUMERIC"
	case len(size) == 2 && size[0] == "38":
		return "BIGNUMERIC"
	default:
		return "NUMERIC(" + strings.Join(size, ", ") + ")"
	}
}

func bigQueryStruct(t string) string {
	var fields []string
	depth, start := 0, len("STRUCT(")
	for i := start; i < len(t); i++ {
		switch t[i] {
		case '(', '[':
			depth++
		case ']':
			depth--
		case ')':
			if depth--; depth < 0 {
				fields = append(fields, t[start:i])
			}
		case ',':
			if depth == 0 {
				fields = append(fields, t[start:i])
				start = i + 1
			}
		}
	}
	for i, f := range fields {
		name, typ, _ := strings.Cut(strings.TrimSpace(f), " ")
		fields[i] = "`" + strings.Trim(name, `"`) + "` " + bigQueryType(typ)
	}
	return "STRUCT<" + strings.Join(fields, ", ") + ">"
}

var ddl = regexp.MustCompile(`(?i)^\s*(create|drop|alter)\s`)

// bigQueryScript refuses DDL beside other statements: in a transaction BigQuery makes no permanent tables. DDL alone runs one
// statement after the other.
func bigQueryScript(statements []string) (transaction bool, err error) {
	n, last := 0, ""
	for _, s := range statements {
		if ddl.MatchString(s) {
			n++
			last = s
		}
	}
	if n > 0 && n < len(statements) {
		return false, &warehouse.QueryError{Msg: "a transaction cannot create, alter or drop a permanent table: " + last}
	}
	return n == 0, nil
}
