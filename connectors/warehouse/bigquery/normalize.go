package bigquery

import (
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// trimmed is a value as text without white space around it.
func (d Dialect) trimmed(expr string) string {
	return "TRIM(CAST(" + expr + " AS STRING), " + d.Text(" \t\n\r\u00a0") + ")"
}

func (d Dialect) contains(expr, pattern string) string {
	return "REGEXP_CONTAINS(" + expr + ", " + d.Text(pattern) + ")"
}

// NormalizeEmail lowers and trims; NULL for what is no address.
func (d Dialect) NormalizeEmail(expr string) string {
	v := "LOWER(" + d.trimmed(expr) + ")"
	return "CASE WHEN " + d.contains(v, `^[^@\s]+@[^@\s]+\.[^@\s.]+$`) + " THEN " + v + " END"
}

// NormalizePhone gives E.164, by the same rules in every dialect.
func (d Dialect) NormalizePhone(expr, country string) string {
	r := warehouse.PhoneRulesOf(country)
	raw := "REGEXP_REPLACE(LOWER(CAST(" + expr + " AS STRING)), " + d.Text(`(;|#|ext|x).*$|\(0\)`) + ", '')"
	digits := "REGEXP_REPLACE(" + raw + ", '[^0-9]', '')"
	e164 := fmt.Sprintf(`CASE WHEN %[1]s THEN CONCAT('+', %[2]s)
	WHEN STARTS_WITH(%[2]s, '%[3]s') THEN CONCAT('+', SUBSTR(%[2]s, %[4]d))
	WHEN %[5]s THEN CONCAT('+%[8]d', SUBSTR(%[2]s, %[9]d))
	WHEN %[6]s THEN CONCAT('+%[8]d', %[2]s)
	WHEN %[7]s THEN CONCAT('+', %[2]s) END`,
		d.contains(raw, `^[^0-9]*\+`), digits, r.Abroad, len(r.Abroad)+1,
		d.contains(digits, "^"+r.Trunk+r.National+"$"), d.contains(digits, "^"+r.National+"$"), d.contains(digits, fmt.Sprint("^", r.Code, r.National, "$")),
		r.Code, len(r.Trunk)+1)
	return "CASE WHEN " + d.contains(e164, `^\+[1-9][0-9]{6,14}$`) + " THEN " + e164 + " END"
}

// NormalizeName folds case, accents and the Nordic letters, and spaces.
func (d Dialect) NormalizeName(expr string) string {
	v := "LOWER(NORMALIZE(" + d.trimmed(expr) + ", NFC))" // å may be written as a and a ring
	v = warehouse.FoldLetters(v)
	v = "REGEXP_REPLACE(NORMALIZE(" + v + ", NFD), " + d.Text(`[\x{0300}-\x{036f}]`) + ", '')"
	return "NULLIF(REGEXP_REPLACE(" + v + ", " + d.Text(`\s+`) + ", ' '), '')"
}

// NormalizeDate reads the usual forms; NULL for what is no date.
func (d Dialect) NormalizeDate(expr string) string {
	v := d.trimmed(expr)
	parsed := "SAFE_CAST(REGEXP_EXTRACT(" + v + ", " + d.Text(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}`) + ") AS DATE)"
	for _, f := range [][2]string{
		{`^[0-9]{8}$`, "%Y%m%d"},
		{`^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}$`, "%d.%m.%Y"},
		{`^[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}$`, "%d/%m/%Y"},
		{`^[0-9]{1,2}-[0-9]{1,2}-[0-9]{4}$`, "%d-%m-%Y"},
		{`^[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}$`, "%Y/%m/%d"},
	} {
		parsed += ", CASE WHEN " + d.contains(v, f[0]) + " THEN SAFE.PARSE_DATE(" + d.Text(f[1]) + ", " + v + ") END"
	}
	return "CAST(COALESCE(" + parsed + ") AS STRING)"
}

// NormalizeText trims and lowers.
func (d Dialect) NormalizeText(expr string) string {
	return "NULLIF(LOWER(" + d.trimmed(expr) + "), '')"
}
