package warehouse

import (
	"fmt"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// PhoneRules are what a country's people leave out of their numbers: the facts from which every dialect's NormalizePhone is made.
type PhoneRules struct {
	Code     int    // 45
	Trunk    string // before national numbers: 0; "" = none
	Abroad   string // before a number of another country: 00
	National string // regular expression for the digits after the code, without the trunk prefix
}

// PhoneRulesOf gives a country's, by its ISO 3166 code.
func PhoneRulesOf(country string) PhoneRules {
	country = strings.ToUpper(country)
	r := PhoneRules{
		Code: phonenumbers.GetCountryCodeForRegion(country), Trunk: phonenumbers.GetNddPrefixForRegion(country, true), Abroad: "00",
	}
	r.National = nationalNumber(r.Code)
	if r.Code == 1 {
		r.Abroad = "011"
	}
	return r
}

// nationalNumber is a regular expression for as many digits as numbers of a country have after its code and without a trunk prefix.
func nationalNumber(code int) string {
	var lengths []string
	number := uint64(2)
	for n := 1; n <= 15; n++ {
		country, national := int32(code), number
		number *= 10
		if phonenumbers.IsPossibleNumberWithReason(&phonenumbers.PhoneNumber{CountryCode: &country, NationalNumber: &national}) == phonenumbers.IS_POSSIBLE {
			lengths = append(lengths, fmt.Sprintf("[0-9]{%d}", n))
		}
	}
	if len(lengths) == 0 { // not in the library: any that E.164 has room for
		return "[0-9]{4,14}"
	}
	return "(?:" + strings.Join(lengths, "|") + ")"
}
