package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// TestNormalizers is the table that holds the normalisers: every dialect gives the same.
func TestNormalizers(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	phone := func(country string) func(string) string {
		return func(expr string) string { return d.NormalizePhone(expr, country) }
	}
	for _, c := range []struct {
		what      string
		normalize func(string) string
		in, want  string // SQL, and "" for NULL
	}{
		{"email", d.NormalizeEmail, "' Ann.Lee+x@Example.COM '", "ann.lee+x@example.com"},
		{"email", d.NormalizeEmail, "chr(9) || 'a@x.dk' || chr(13) || chr(10)", "a@x.dk"},
		{"email", d.NormalizeEmail, "'ÆØÅ@x.dk'", "æøå@x.dk"},
		{"email", d.NormalizeEmail, "'a@b'", ""},
		{"email", d.NormalizeEmail, "'a b@x.dk'", ""},
		{"email", d.NormalizeEmail, "'a@x.dk, b@x.dk'", ""},
		{"email", d.NormalizeEmail, "''", ""},
		{"email", d.NormalizeEmail, "NULL", ""},
		{"email", d.NormalizeEmail, "5", ""},
		{"phone", phone("DK"), "'12 34 56 78'", "+4512345678"},
		{"phone", phone("DK"), "12345678", "+4512345678"},
		{"phone", phone("DK"), "'+45 12 34 56 78'", "+4512345678"},
		{"phone", phone("DK"), "'(+45) 12-34-56-78'", "+4512345678"},
		{"phone", phone("DK"), "'tel:+4512345678'", "+4512345678"},
		{"phone", phone("DK"), "'004512345678'", "+4512345678"},
		{"phone", phone("DK"), "'45 12 34 56 78'", "+4512345678"},
		{"phone", phone("DK"), "'+4512345678 ext. 5'", "+4512345678"},
		{"phone", phone("DK"), "'+46 (0)70 123 45 67'", "+46701234567"},
		{"phone", phone("DK"), "'070-1234567'", ""},
		{"phone", phone("DK"), "'112'", ""},
		{"phone", phone("DK"), "'no number'", ""},
		{"phone", phone("DK"), "''", ""},
		{"phone", phone("DK"), "NULL", ""},
		{"phone", phone("DK"), "'+0012345678'", ""},
		{"phone", phone("SE"), "'070-123 45 67'", "+46701234567"},
		{"phone", phone("SE"), "'46701234567'", "+46701234567"},
		{"phone", phone("US"), "'(212) 555-1234'", "+12125551234"},
		{"phone", phone("US"), "'1-212-555-1234 x12'", "+12125551234"},
		{"phone", phone("US"), "'011 45 12345678'", "+4512345678"},
		{"phone", phone("GB"), "'07911 123456'", "+447911123456"},
		{"phone", phone("IT"), "'06 6982 1234'", "+390669821234"},
		{"phone", phone("DE"), "'030/123456'", "+4930123456"},
		{"name", d.NormalizeName, "'  Æble   ØDEGÅRD É '", "aeble oedegaard e"},
		{"name", d.NormalizeName, "'Ga' || chr(778) || 's'", "gaas"},
		{"name", d.NormalizeName, "'Gås'", "gaas"},
		{"name", d.NormalizeName, "'Großmann'", "grossmann"},
		{"name", d.NormalizeName, "'Jean' || chr(9) || 'Luc'", "jean luc"},
		{"name", d.NormalizeName, "' '", ""},
		{"date", d.NormalizeDate, "'1999-12-31'", "1999-12-31"},
		{"date", d.NormalizeDate, "DATE '1999-12-31'", "1999-12-31"},
		{"date", d.NormalizeDate, "TIMESTAMP '1999-12-31 10:00:00'", "1999-12-31"},
		{"date", d.NormalizeDate, "'31.12.1999'", "1999-12-31"},
		{"date", d.NormalizeDate, "'31/12/1999'", "1999-12-31"},
		{"date", d.NormalizeDate, "'1999/12/31'", "1999-12-31"},
		{"date", d.NormalizeDate, "19991231", "1999-12-31"},
		{"date", d.NormalizeDate, "'31.02.1999'", ""},
		{"date", d.NormalizeDate, "'epoch'", ""},
		{"date", d.NormalizeDate, "'infinity'", ""},
		{"date", d.NormalizeDate, "'soon'", ""},
		{"text", d.NormalizeText, "' AbC '", "abc"},
		{"text", d.NormalizeText, "''", ""},
	} {
		got, err := text(t, w, "SELECT coalesce("+c.normalize("v")+", '') FROM (SELECT "+c.in+" AS v) x")
		if err != nil || got != c.want {
			t.Errorf("%s of %s: got %q, want %q (%v)", c.what, c.in, got, c.want, err)
		}
	}
}

// What a country's own people write for its numbers comes out as the phone library has it.
func TestPhonesOfManyCountries(t *testing.T) {
	t.Parallel()
	w := Open(t)
	// Not AR and BY, whose trunk prefixes stand inside numbers or have two digits.
	for _, country := range strings.Fields("DK SE NO FI IS FO GL DE FR NL BE ES IT PT GB IE US CA MX BR IN JP CN AU ZA PL CZ CH AT GR TR UA RU HU") {
		number := phonenumbers.GetExampleNumberForType(country, phonenumbers.MOBILE)
		var forms []string
		for _, form := range []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.NATIONAL} {
			forms = append(forms, "SELECT "+w.Dialect().Text(phonenumbers.Format(number, form))+" AS v")
		}
		got, err := text(t, w, fmt.Sprintf("SELECT string_agg(DISTINCT coalesce(%s, 'NULL'), ',') FROM (%s) x",
			w.Dialect().NormalizePhone("v", country), strings.Join(forms, " UNION ALL ")))
		if want := phonenumbers.Format(number, phonenumbers.E164); err != nil || got != want {
			t.Errorf("%s %s: got %q, want %q (%v)", country, forms, got, want, err)
		}
	}
}

func text(t *testing.T, w warehouse.Warehouse, query string) (string, error) {
	t.Helper()
	rows, err := w.Query(t.Context(), query)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	if !rows.Next() {
		return "", rows.Err()
	}
	v, err := rows.Values()
	if err != nil {
		return "", err
	}
	s, _ := v[0].(string)
	return s, rows.Err()
}
