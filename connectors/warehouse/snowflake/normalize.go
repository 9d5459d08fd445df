package snowflake

import (
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// trimmed is a value as text without white space around it.
func (d Dialect) trimmed(expr string) string {
	return "TRIM(CAST(" + expr + " AS VARCHAR), " + d.Text(" \t\n\r\u00a0") + ")"
}

// contains tells whether a part of a text matches: REGEXP_LIKE is about the whole.
func (d Dialect) contains(expr, pattern string) string {
	return "REGEXP_INSTR(" + expr + ", " + d.Text(capturing(pattern)) + ") > 0"
}

// NormalizeEmail lowers and trims; NULL for what is no address.
func (d Dialect) NormalizeEmail(expr string) string {
	v := "LOWER(" + d.trimmed(expr) + ")"
	return "CASE WHEN " + d.Matches(v, `[^@\s]+@[^@\s]+\.[^@\s.]+`) + " THEN " + v + " END"
}

// NormalizePhone gives E.164, by the same rules in every dialect.
func (d Dialect) NormalizePhone(expr, country string) string {
	r := warehouse.PhoneRulesOf(country)
	raw := "REGEXP_REPLACE(LOWER(CAST(" + expr + " AS VARCHAR)), " + d.Text(`(;|#|ext|x).*$|\(0\)`) + ", '')"
	digits := "REGEXP_REPLACE(" + raw + ", '[^0-9]', '')"
	e164 := fmt.Sprintf(`CASE WHEN %[1]s THEN CONCAT('+', %[2]s)
	WHEN STARTSWITH(%[2]s, '%[3]s') THEN CONCAT('+', SUBSTR(%[2]s, %[4]d))
	WHEN %[5]s THEN CONCAT('+%[8]d', SUBSTR(%[2]s, %[9]d))
	WHEN %[6]s THEN CONCAT('+%[8]d', %[2]s)
	WHEN %[7]s THEN CONCAT('+', %[2]s) END`,
		d.contains(raw, `^[^0-9]*\+`), digits, r.Abroad, len(r.Abroad)+1,
		d.Matches(digits, r.Trunk+r.National), d.Matches(digits, r.National), d.Matches(digits, fmt.Sprint(r.Code, r.National)),
		r.Code, len(r.Trunk)+1)
	return "CASE WHEN " + d.Matches(e164, `\+[1-9][0-9]{6,14}`) + " THEN " + e164 + " END"
}

// accented are the letters of Latin alphabets with accents, plain those that they are without: Snowflake has no function that takes
// accents off. Those of other alphabets stay as they are.
const (
	accented = "àáâãäçèéêëìíîïñòóôõöùúûüýÿāăąćĉċčďēĕėęěĝğġģĥĩīĭįĵķĺļľńņňōŏőŕŗřśŝşšţťũūŭůűųŵŷźżžơưǎǐǒǔǖǘǚǜǟǡǧǩǫǭǰǵǹǻȁȃȅȇȉȋȍȏȑȓȕ" +
		"ȗșțȟȧȩȫȭȯȱȳḁḃḅḇḉḋḍḏḑḓḕḗḙḛḝḟḡḣḥḧḩḫḭḯḱḳḵḷḹḻḽḿṁṃṅṇṉṋṍṏṑṓṕṗṙṛṝṟṡṣṥṧṩṫṭṯṱṳṵṷṹṻṽṿẁẃẅẇẉẋẍẏẑẓẕẖẗẘẙạảấầẩẫậắằẳẵặẹẻẽếềểễệ" +
		"ỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"
	plain = "aaaaaceeeeiiiinooooouuuuyyaaaccccdeeeeegggghiiiijklllnnnooorrrssssttuuuuuuwyzzzouaiouuuuuaagkoojgnaaaeeiioorru" +
		"usthaeooooyabbbcdddddeeeeefghhhhhiikkkllllmmmnnnnoooopprrrrsssssttttuuuuuvvwwwwwxxyzzzhtwyaaaaaaaaaaaaeeeeeeee" +
		"iioooooooooooouuuuuuuyyyy"
)

// NormalizeName folds case, accents and the Nordic letters, and spaces.
func (d Dialect) NormalizeName(expr string) string {
	v := "LOWER(" + d.trimmed(expr) + ")"
	// A letter and its accent may be two: a and a ring is å.
	v = "REPLACE(" + v + ", " + d.Text("a\u030a") + ", 'aa')"
	v = warehouse.FoldLetters(v)
	v = "TRANSLATE(" + v + ", '" + accented + "', '" + plain + "')"
	v = "REGEXP_REPLACE(" + v + ", " + d.Text("[\u0300-\u036f]") + ", '')"
	return "NULLIF(REGEXP_REPLACE(" + v + ", " + d.Text(`\s+`) + ", ' '), '')"
}

// NormalizeDate reads the usual forms; NULL for what is no date.
func (d Dialect) NormalizeDate(expr string) string {
	v := d.trimmed(expr)
	parsed := "TRY_TO_DATE(REGEXP_SUBSTR(" + v + ", " + d.Text(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}`) + "), 'YYYY-MM-DD')"
	for _, f := range [][2]string{
		{`[0-9]{8}`, "YYYYMMDD"},
		{`[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}`, "DD.MM.YYYY"},
		{`[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}`, "DD/MM/YYYY"},
		{`[0-9]{1,2}-[0-9]{1,2}-[0-9]{4}`, "DD-MM-YYYY"},
		{`[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}`, "YYYY/MM/DD"},
	} {
		parsed += ", CASE WHEN " + d.Matches(v, f[0]) + " THEN TRY_TO_DATE(" + v + ", '" + f[1] + "') END"
	}
	return "TO_VARCHAR(COALESCE(" + parsed + "), 'YYYY-MM-DD')"
}

// NormalizeText trims and lowers.
func (d Dialect) NormalizeText(expr string) string {
	return "NULLIF(LOWER(" + d.trimmed(expr) + "), '')"
}
