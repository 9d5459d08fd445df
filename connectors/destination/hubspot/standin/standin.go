// Package standin is a strict stand-in of the parts of HubSpot's API that contacts and static lists need, written from
// HubSpot's OpenAPI descriptions and usage guidelines: batch calls on contacts, some on
// companies, properties, lists and their memberships,
// account details. It answers results in another order than the inputs came in, keeps to the rate limit of a free account, and
// refuses what the contract does not know.
package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/standin"
)

// PortalID is the id of the account that the stand-in plays.
const PortalID = 62515

const (
	contactType = "0-1"
	maxInputs   = 100
	maxText     = 65_536
)

// hub is the account.
type hub struct {
	core    *standin.Core
	handler http.Handler
	now     func() time.Time

	mu         sync.Mutex
	properties map[string]*property
	contacts   map[string]*contact // by id
	byEmail    map[string]*contact // those that are not archived
	companies  companies
	lists      map[string]*list // by id
	nextID     int
}

type contact struct {
	id         string
	properties map[string]string
	created    time.Time
	updated    time.Time
	archived   bool
}

type list struct {
	id, name, processing string
	members              map[string]bool
}

// New makes an account that has the usual properties, no contacts, one DYNAMIC list ("All contacts"), and the rate limit of
// an app in a free account: 100 requests in 10 seconds.
func New() standin.StandIn {
	h := &hub{now: time.Now}
	h.forget()
	h.core = standin.NewCore("hubspot", h.state, h.forget)
	h.core.Limit(standin.Limit{Requests: 100, Per: 10 * time.Second}, h.tooMany)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /account-info/v3/details", h.details)
	mux.HandleFunc("GET /crm/v3/properties/contacts", h.listProperties)
	mux.HandleFunc("POST /crm/v3/properties/contacts", h.createProperty)
	mux.HandleFunc("POST /crm/v3/objects/contacts/batch/upsert", h.batchUpsert)
	mux.HandleFunc("POST /crm/v3/objects/contacts/batch/update", h.batchUpdate)
	mux.HandleFunc("POST /crm/v3/objects/contacts/batch/create", h.batchCreate)
	mux.HandleFunc("POST /crm/v3/objects/contacts/batch/archive", h.batchArchive)
	mux.HandleFunc("POST /crm/v3/objects/contacts/batch/read", h.batchRead)
	mux.HandleFunc("POST /crm/v3/properties/companies", h.createCompanyProperty)
	mux.HandleFunc("POST /crm/v3/objects/companies/batch/create", h.createCompanies)
	mux.HandleFunc("POST /crm/v3/objects/companies/batch/read", h.readCompanies)
	mux.HandleFunc("POST /crm/v3/lists", h.createList)
	mux.HandleFunc("GET /crm/v3/lists/{id}", h.getList)
	mux.HandleFunc("GET /crm/v3/lists/object-type-id/{type}/name/{name}", h.findList)
	mux.HandleFunc("GET /crm/v3/lists/{id}/memberships", h.members)
	mux.HandleFunc("PUT /crm/v3/lists/{id}/memberships/add", h.addMembers)
	mux.HandleFunc("PUT /crm/v3/lists/{id}/memberships/remove", h.removeMembers)
	mux.HandleFunc("POST /crm/v3/lists/records/memberships/batch/read", h.readMemberships)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "OBJECT_NOT_FOUND", "the stand-in has no "+r.Method+" "+r.URL.Path)
	})
	h.handler = h.core.Wrap(h.guard(mux))
	return h
}

// Handler answers as api.hubapi.com does.
func (h *hub) Handler() http.Handler { return h.handler }

// Core scripts faults.
func (h *hub) Core() *standin.Core { return h.core }

// Config reaches the stand-in; it takes any token.
func (h *hub) Config(base string) map[string]any {
	return map[string]any{"access_token": "sandbox-token", "base_url": base}
}

// Samples are the contacts by address, and the members of one list.
func (h *hub) Samples() []standin.Sample {
	address := func(n int) string { return fmt.Sprintf("person-%d@example.com", n) }
	return []standin.Sample{
		{Object: "contacts", Key: "email", KeyOf: address, Text: "jobtitle", Number: "annualrevenue"},
		{
			Object: "list_members", Options: map[string]any{"list": "Conformance", "create": true}, Key: "email", KeyOf: address,
			Seed: h.seed, Proves: true,
		},
	}
}

// Records are the contacts by address (by id where they have none), or the members of a list likewise.
func (h *hub) Records(object, container string) standin.Records {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := standin.Records{}
	l := h.lists[container]
	for id, c := range h.contacts {
		if c.archived || object == "list_members" && (l == nil || !l.members[id]) {
			continue
		}
		fields := map[string]any{}
		if object == "contacts" {
			for name, value := range c.properties {
				fields[name] = value
			}
		}
		out[c.name()] = fields
	}
	return out
}

func (c *contact) name() string {
	if email := c.properties["email"]; email != "" {
		return email
	}
	return c.id
}

// seed makes contacts.
func (h *hub) seed(emails ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, email := range emails {
		if h.findBy("email", email) == nil {
			h.add(map[string]string{"email": email})
		}
	}
}

func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.properties = usualProperties()
	h.contacts, h.byEmail, h.lists, h.nextID = map[string]*contact{}, map[string]*contact{}, map[string]*list{}, 100
	h.companies = companies{properties: companyProperties(), records: map[string]*contact{}}
	h.newList("All contacts", "DYNAMIC")
}

func (h *hub) id() string {
	h.nextID++
	return strconv.Itoa(h.nextID)
}

func (h *hub) newList(name, processing string) *list {
	l := &list{id: h.id(), name: name, processing: processing, members: map[string]bool{}}
	h.lists[l.id] = l
	return l
}

// add makes a contact with properties that were checked.
func (h *hub) add(properties map[string]string) *contact {
	c := &contact{id: h.id(), properties: map[string]string{}, created: h.now()}
	h.contacts[c.id] = c
	h.set(c, properties)
	return c
}

// set writes properties; HubSpot keeps addresses in lower case, and an empty value is none.
func (h *hub) set(c *contact, properties map[string]string) {
	for name, value := range properties {
		if name == "email" {
			value = strings.ToLower(strings.TrimSpace(value))
			delete(h.byEmail, c.properties["email"])
			if value != "" {
				h.byEmail[value] = c
			}
		}
		if value == "" {
			delete(c.properties, name)
			continue
		}
		c.properties[name] = value
	}
	c.updated = h.now()
}

// findBy finds a contact that is not archived by a unique property.
func (h *hub) findBy(name, value string) *contact {
	if name == "email" {
		return h.byEmail[strings.ToLower(strings.TrimSpace(value))]
	}
	for _, c := range h.contacts {
		if !c.archived && value != "" && c.properties[name] == value {
			return c
		}
	}
	return nil
}

func (h *hub) state() any {
	contacts := h.Records("contacts", "")
	h.mu.Lock()
	defer h.mu.Unlock()
	ids, archived := map[string]string{}, 0
	for id, c := range h.contacts {
		if c.archived {
			archived++
		} else {
			ids[c.name()] = id
		}
	}
	lists := map[string]any{}
	for _, l := range h.lists {
		members := []string{}
		for id := range l.members {
			if c := h.contacts[id]; c != nil && !c.archived {
				members = append(members, c.name())
			}
		}
		slices.Sort(members)
		lists[l.name] = map[string]any{"id": l.id, "processing_type": l.processing, "count": len(members), "members": members}
	}
	return map[string]any{
		"objects": map[string]any{"contacts": map[string]any{"count": len(contacts), "records": contacts}},
		"ids":     ids, "archived": archived, "lists": lists,
	}
}

// guard checks what every request needs.
func (h *hub) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-HubSpot-RateLimit-Max", "100")
		w.Header().Set("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")
		w.Header().Set("X-HubSpot-RateLimit-Remaining", strconv.Itoa(h.core.Remaining()))
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer || token == "" || strings.Contains(token, " ") {
			refuse(w, http.StatusUnauthorized, "INVALID_AUTHENTICATION", "Authentication credentials not found. This API supports OAuth 2.0 authentication.")
			return
		}
		if r.Method != http.MethodGet && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			refuse(w, http.StatusUnsupportedMediaType, "VALIDATION_ERROR", "Content-Type is not application/json")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (h *hub) tooMany(w http.ResponseWriter, _ time.Duration) {
	w.Header().Set("X-HubSpot-RateLimit-Max", "100")
	w.Header().Set("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")
	standin.WriteJSON(w, http.StatusTooManyRequests, map[string]any{
		"status": "error", "message": "You have reached your ten_secondly_rolling limit.", "errorType": "RATE_LIMIT",
		"correlationId": correlation, "policyName": "TEN_SECONDLY_ROLLING", "category": "RATE_LIMITS",
	})
}

func (h *hub) details(w http.ResponseWriter, _ *http.Request) {
	standin.WriteJSON(w, http.StatusOK, map[string]any{
		"portalId": PortalID, "accountType": "DEVELOPER_TEST", "timeZone": "Europe/Copenhagen", "companyCurrency": "DKK",
		"additionalCurrencies": []string{}, "utcOffset": "+01:00", "utcOffsetMilliseconds": 3600000, "uiDomain": "app.hubspot.com",
		"dataHostingLocation": "eu1",
	})
}

const correlation = "aeb5f871-7f07-4993-9211-075dc63e7cbf"

// refuse answers HubSpot's Error.
func refuse(w http.ResponseWriter, status int, category, message string) {
	standin.WriteJSON(w, status, map[string]any{
		"status": "error", "message": message, "correlationId": correlation, "category": category,
	})
}

// decode reads a body strictly: what the contract does not name is refused.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil || d.More() {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("Invalid input JSON: %v", err))
		return false
	}
	return true
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
