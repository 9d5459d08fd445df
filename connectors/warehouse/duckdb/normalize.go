package duckdb

import (
	"fmt"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// NormalizeEmail lowers and trims; NULL for what is no address.
func (Dialect) NormalizeEmail(expr string) string {
	v := "lower(trim(CAST(" + expr + " AS VARCHAR)))"
	return "CASE WHEN regexp_full_match(" + v + `, '[^@\s]+@[^@\s]+\.[^@\s.]+') THEN ` + v + " END"
}

// NormalizePhone gives E.164: digits with the country's code, the trunk prefix taken off.
func (Dialect) NormalizePhone(expr, country string) string {
	country = strings.ToUpper(country)
	code := phonenumbers.GetCountryCodeForRegion(country)
	trunk := phonenumbers.GetNddPrefixForRegion(country, true)
	raw := "trim(CAST(" + expr + " AS VARCHAR))"
	digits := "regexp_replace(" + raw + ", '[^0-9]', '', 'g')"
	national := digits
	if trunk != "" {
		national = "regexp_replace(" + digits + ", '^" + trunk + "', '')"
	}
	e164 := fmt.Sprintf(`CASE WHEN %[1]s LIKE '+%%' THEN '+' || %[2]s
	WHEN %[2]s LIKE '00%%' THEN '+' || substr(%[2]s, 3)
	ELSE '+%[3]d' || %[4]s END`, raw, digits, code, national)
	return "CASE WHEN regexp_full_match(" + e164 + `, '\+[1-9][0-9]{6,14}') THEN ` + e164 + " END"
}

// NormalizeName folds case, accents and the Nordic letters, and spaces.
func (Dialect) NormalizeName(expr string) string {
	v := "lower(trim(CAST(" + expr + " AS VARCHAR)))"
	for _, r := range [][2]string{{"æ", "ae"}, {"ø", "oe"}, {"å", "aa"}, {"ß", "ss"}, {"œ", "oe"}, {"þ", "th"}, {"ð", "d"}} {
		v = "replace(" + v + ", '" + r[0] + "', '" + r[1] + "')"
	}
	v = `regexp_replace(strip_accents(` + v + `), '\s+', ' ', 'g')`
	return "nullif(" + v + ", '')"
}

// NormalizeDate reads the usual forms; NULL for what is no date.
func (Dialect) NormalizeDate(expr string) string {
	v := "trim(CAST(" + expr + " AS VARCHAR))"
	return "CAST(coalesce(TRY_CAST(" + v + " AS DATE), CAST(try_strptime(" + v +
		", ['%Y%m%d', '%d.%m.%Y', '%d/%m/%Y', '%d-%m-%Y', '%Y/%m/%d']) AS DATE)) AS VARCHAR)"
}

// NormalizeText trims and lowers.
func (Dialect) NormalizeText(expr string) string {
	return "nullif(lower(trim(CAST(" + expr + " AS VARCHAR))), '')"
}
