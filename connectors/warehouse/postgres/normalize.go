package postgres

import (
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// trimmed is a value as text without white space around it.
func trimmed(expr string) string {
	return "btrim(CAST(" + expr + " AS TEXT), ' ' || chr(9) || chr(10) || chr(13) || chr(160))"
}

// NormalizeEmail lowers and trims; NULL for what is no address.
func (d Dialect) NormalizeEmail(expr string) string {
	v := d.lower(trimmed(expr))
	return "CASE WHEN " + v + ` ~ '^[^@\s]+@[^@\s]+\.[^@\s.]+$' THEN ` + v + " END"
}

// NormalizePhone gives E.164, by the same rules in every dialect.
func (Dialect) NormalizePhone(expr, country string) string {
	r := warehouse.PhoneRulesOf(country)
	raw := "regexp_replace(lower(CAST(" + expr + ` AS TEXT)), '(;|#|ext|x).*$|\(0\)', '', 'g')`
	digits := "regexp_replace(" + raw + ", '[^0-9]', '', 'g')"
	e164 := fmt.Sprintf(`CASE WHEN %[1]s ~ '^[^0-9]*\+' THEN '+' || %[2]s
	WHEN %[2]s LIKE '%[3]s%%' THEN '+' || substr(%[2]s, %[4]d)
	WHEN %[2]s ~ '^%[5]s%[6]s$' THEN '+%[7]d' || substr(%[2]s, %[8]d)
	WHEN %[2]s ~ '^%[6]s$' THEN '+%[7]d' || %[2]s
	WHEN %[2]s ~ '^%[7]d%[6]s$' THEN '+' || %[2]s END`,
		raw, digits, r.Abroad, len(r.Abroad)+1, r.Trunk, r.National, r.Code, len(r.Trunk)+1)
	return "CASE WHEN (" + e164 + `) ~ '^\+[1-9][0-9]{6,14}$' THEN ` + e164 + " END"
}

// NormalizeName folds case, accents and the Nordic letters, and spaces.
func (d Dialect) NormalizeName(expr string) string {
	v := d.lower("normalize(" + trimmed(expr) + ", NFC)") // å may be written as a and a ring
	for _, r := range [][2]string{{"æ", "ae"}, {"ø", "oe"}, {"å", "aa"}, {"ß", "ss"}, {"œ", "oe"}, {"þ", "th"}, {"ð", "d"}} {
		v = "replace(" + v + ", '" + r[0] + "', '" + r[1] + "')"
	}
	v = `regexp_replace(regexp_replace(normalize(` + v + `, NFD), '[\u0300-\u036f]', '', 'g'), '\s+', ' ', 'g')`
	return "nullif(" + v + ", '')"
}

// NormalizeDate reads the usual forms; NULL for what is no date.
func (Dialect) NormalizeDate(expr string) string {
	return Functions + ".norm_date(" + trimmed(expr) + ")"
}

// NormalizeText trims and lowers.
func (d Dialect) NormalizeText(expr string) string {
	return "nullif(" + d.lower(trimmed(expr)) + ", '')"
}
