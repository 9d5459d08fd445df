package duckdb

import (
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// trimmed is a value as text without white space around it: trim alone takes off blanks only.
func trimmed(expr string) string {
	return "trim(CAST(" + expr + " AS VARCHAR), ' ' || chr(9) || chr(10) || chr(13) || chr(160))"
}

// NormalizeEmail lowers and trims; NULL for what is no address.
func (Dialect) NormalizeEmail(expr string) string {
	const address = `[^@\s]+@[^@\s]+\.[^@\s.]+`
	v, rare := "lower(trim(CAST("+expr+" AS VARCHAR)))", "lower("+trimmed(expr)+")"
	// Looking for every kind of white space takes longer than all the rest, and few values have any.
	return fmt.Sprintf("CASE WHEN regexp_full_match(%[1]s, '%[3]s') THEN %[1]s WHEN regexp_full_match(%[2]s, '%[3]s') THEN %[2]s END", v, rare, address)
}

// NormalizePhone gives E.164: digits with the country's code, the trunk prefix and an extension taken off. A number with + or 00 before
// it is of whatever country it names; of the others, NULL for one that is too long or too short for the country.
func (Dialect) NormalizePhone(expr, country string) string {
	rules := warehouse.PhoneRulesOf(country)
	raw := "regexp_replace(lower(CAST(" + expr + ` AS VARCHAR)), '(;|#|ext|x).*$|\(0\)', '', 'g')`
	digits := "regexp_replace(" + raw + ", '[^0-9]', '', 'g')"
	e164 := fmt.Sprintf(`CASE WHEN regexp_matches(%[1]s, '^[^0-9]*\+') THEN '+' || %[2]s
	WHEN %[2]s LIKE '%[3]s%%' THEN '+' || substr(%[2]s, %[4]d)
	WHEN regexp_full_match(%[2]s, '%[5]s%[6]s') THEN '+%[7]d' || substr(%[2]s, %[8]d)
	WHEN regexp_full_match(%[2]s, '%[6]s') THEN '+%[7]d' || %[2]s
	WHEN regexp_full_match(%[2]s, '%[7]d%[6]s') THEN '+' || %[2]s END`,
		raw, digits, rules.Abroad, len(rules.Abroad)+1, rules.Trunk, rules.National, rules.Code, len(rules.Trunk)+1)
	return "CASE WHEN regexp_full_match(" + e164 + `, '\+[1-9][0-9]{6,14}') THEN ` + e164 + " END"
}

// NormalizeName folds case, accents and the Nordic letters, and spaces.
func (Dialect) NormalizeName(expr string) string {
	v := "lower(nfc_normalize(" + trimmed(expr) + "))" // å may be written as a and a ring
	v = warehouse.FoldLetters(v)
	v = `regexp_replace(strip_accents(` + v + `), '\s+', ' ', 'g')`
	return "nullif(" + v + ", '')"
}

// NormalizeDate reads the usual forms; NULL for what is no date.
func (Dialect) NormalizeDate(expr string) string {
	v := trimmed(expr)
	v = "CASE WHEN " + v + " ~ '[0-9].*' THEN " + v + " END" // epoch and infinity are dates to DuckDB
	return "CAST(coalesce(TRY_CAST(" + v + " AS DATE), CAST(try_strptime(" + v +
		", ['%Y%m%d', '%d.%m.%Y', '%d/%m/%Y', '%d-%m-%Y', '%Y/%m/%d']) AS DATE)) AS VARCHAR)"
}

// NormalizeText trims and lowers.
func (Dialect) NormalizeText(expr string) string {
	return "nullif(lower(" + trimmed(expr) + "), '')"
}
