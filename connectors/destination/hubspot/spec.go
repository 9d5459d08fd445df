// Package hubspot delivers contacts and members of static lists to HubSpot's CRM API v3.
//
// Facts come from HubSpot's own OpenAPI descriptions (contacts, lists and properties of 2026-08) and usage guidelines. Every
// row of a batch carries an objectWriteTraceId, by which the answer's results and errors find it again; results come in any
// order, and a row that the answer does not mention stays uncertain (I1).
package hubspot

import (
	"time"

	"github.com/dray-dev/dray/connectors/destination"
)

// The objects.
const (
	contacts    = "contacts"
	listMembers = "list_members"
)

const (
	defaultBaseURL = "https://api.hubapi.com" // for all regions (servers in contacts.json)
	recordID       = "hs_object_id"           // the property that holds a record's id; not accepted as idProperty
	maxBatch       = 100                      // rows of a batch call on objects
	maxMembers     = 1000                     // ids of a membership call; HubSpot documents no limit
)

// Connector makes HubSpot destinations.
type Connector struct{}

// Spec declares the connector.
func (Connector) Spec() destination.Spec {
	return destination.Spec{
		Type:    "hubspot",
		Title:   "HubSpot",
		Summary: "Contacts, and members of static lists, in HubSpot's CRM.",
		Config: []destination.Option{
			{
				Name: "access_token", Type: "string", Required: true, Secret: true, Example: "\"${HUBSPOT_TOKEN}\"",
				Doc: "Token of a private app, or an OAuth access token, with the scopes `crm.objects.contacts.read` and " +
					"`crm.objects.contacts.write`, for lists also `crm.lists.read` and `crm.lists.write`, " +
					"for a `lookup:` that of the object, as `crm.objects.companies.read`.",
			},
			{
				Name: "base_url", Type: "string", Default: defaultBaseURL,
				Doc: "Another host for the API: a local stand-in, or a proxy. HubSpot's own host serves all regions.",
			},
		},
		Objects: []destination.Object{contactsObject(), listMembersObject()},
		Rate: destination.Rate{
			Requests: 100, Per: 10 * time.Second, // until an answer says what the account may do (usage guidelines, 2026)
			Daily:       250_000, // of a Free or Starter account (usage guidelines, 2026)
			LimitHeader: "X-HubSpot-RateLimit-Max", WindowHeader: "X-HubSpot-RateLimit-Interval-Milliseconds",
		},
		Concurrency: 8,
		Finds:       true,
		Limits: []string{
			"100 rows a request; 100 requests in 10 seconds for an app in Free and Starter accounts (Professional and Enterprise allow 190), " +
				"and 250,000 a day for an account (usage guidelines, 2026).",
			"A text has at most 65,536 characters. A property must exist before it is written; `dray check` compares the mapped fields with " +
				"the account's own.",
			"A `lookup:` finds records of any object (companies, deals, a custom object's `2-…`) by a property with `hasUniqueValue`, or by " +
				"`hs_object_id`; a company's `domain` is not unique. 100 values a request (batch/read).",
			"Only lists of the processing type MANUAL or SNAPSHOT take members; HubSpot fills DYNAMIC ones itself.",
		},
	}
}

func contactsObject() destination.Object {
	return destination.Object{
		Name: contacts,
		Doc: "The account's contacts. A contact is created with all mapped properties and then updated with the changed ones. Values are " +
			"sent as HubSpot expects them: dates YYYY-MM-DD, times in UTC to the millisecond, booleans true and false, a JSON list joined " +
			"with `;` for a property with several options, NULL as the empty text, which clears the property. Consent to emails is no " +
			"property and is never touched. `on_remove: delete` archives (HubSpot keeps archived contacts for 90 days); `clear` empties the " +
			"mapped properties. The key may be any property of yours whose values HubSpot keeps unique (`hasUniqueValue`).",
		Modes:     []destination.Mode{destination.Upsert, destination.Update, destination.Insert, destination.Mirror},
		Removes:   []string{"delete", "clear", "set", "ignore"},
		Withdraw:  "clear",
		Keys:      contactKeys(),
		AnyKey:    true,
		OneColumn: true,
		Fields: []destination.Field{
			{Name: "email", Doc: "The contact's address; HubSpot compares it without case."},
			{Name: "firstname", Doc: "First name."},
			{Name: "lastname", Doc: "Last name."},
			{Name: recordID, ReadOnly: true, Doc: "The record's id, given by HubSpot."},
		},
		OpenFields:   true,
		MaxBatch:     maxBatch,
		TellsCreated: true,
		Reads:        true,
		Rekey:        true,
	}
}

func listMembersObject() destination.Object {
	return destination.Object{
		Name: listMembers,
		Doc: "Members of one static list of contacts. They are written by record id: name in `via:` the sync that delivers the same " +
			"contacts, or let each id be looked up by the key. Someone who is no contact is skipped (`no_record`) and tried again later.",
		Options: []destination.Option{
			{
				Name: "list", Type: "string", Example: "VIPs",
				Doc: "The list's name, as shown in HubSpot (case does not count). Either this or `list_id`.",
			},
			{
				Name: "list_id", Type: "string",
				Doc: "The list's id, which stays when the list is renamed.",
			},
			{
				Name: "create", Type: "bool", Default: "false",
				Doc: "Make the list where none has this name: a MANUAL list of contacts.",
			},
		},
		Modes:         []destination.Mode{destination.Upsert, destination.Insert, destination.Mirror},
		Removes:       []string{"delete", "ignore"},
		DefaultRemove: "delete",
		Withdraw:      "delete",
		Keys:          contactKeys(),
		AnyKey:        true,
		OneColumn:     true,
		MaxBatch:      maxMembers,
		Membership:    true,
		MembersByID:   true,
		Container:     []string{"list", "list_id"},
	}
}

func contactKeys() []destination.Key {
	return []destination.Key{
		{Name: "email", Equality: destination.CaseInsensitive, Doc: "The contact's address."},
		{Name: recordID, Doc: "The record's id. HubSpot gives it, so it finds contacts and cannot create them."},
	}
}
