package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// account is an open connection to one HubSpot account.
type account struct {
	http    *httpx.Client
	base    string
	header  http.Header
	secrets []string
	buffers httpx.Buffers
}

// Open checks the configuration; no request is made.
func (Connector) Open(_ context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	token := strings.TrimSpace(cfg.String("access_token"))
	if token == "" {
		return nil, invalid("access_token is missing").WithHint("write access_token: \"${HUBSPOT_TOKEN}\" and set the variable")
	}
	if strings.ContainsAny(token, "\r\n\x00 ") {
		return nil, invalid("access_token is not a token: it has blanks or several lines")
	}
	base := cfg.String("base_url")
	if base == "" {
		base = defaultBaseURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, invalid("base_url is not an http or https address").WithHint("such as %s", defaultBaseURL)
	}
	return &account{
		http: env.HTTP, base: strings.TrimSuffix(base, "/"), secrets: []string{token},
		header: http.Header{
			"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
		},
	}, nil
}

func invalid(format string, args ...any) *diag.Error {
	return diag.Errorf(diag.Invalid, "destination.option", "hubspot: "+format, args...)
}

// Check reads the account's details: its id is the portal's. Where they cannot be found (a proxy that lets only the CRM's paths
// through), reading a contact proves the token, and the host stands for the account.
func (a *account) Check(ctx context.Context) (destination.Account, error) {
	var details struct {
		PortalID json.Number `json:"portalId"`
		Kind     string      `json:"accountType"`
	}
	err := a.read(ctx, "read the account", http.MethodGet, "/account-info/v3/details", nil, &details)
	var h *httpx.Error
	if errors.As(err, &h) && h.Status == http.StatusNotFound {
		return a.checkByContact(ctx)
	}
	if err != nil {
		return destination.Account{}, err
	}
	if details.PortalID == "" {
		return destination.Account{}, &destination.Error{Class: destination.Stop, Code: "no_portal", Message: "the account's details hold no portalId"}
	}
	name := "HubSpot portal " + details.PortalID.String()
	if details.Kind != "" {
		name += " (" + strings.ToLower(details.Kind) + ")"
	}
	return destination.Account{ID: details.PortalID.String(), Name: name}, nil
}

func (a *account) checkByContact(ctx context.Context) (destination.Account, error) {
	var answer struct {
		Results *[]json.RawMessage `json:"results"`
	}
	if err := a.read(ctx, "read a contact", http.MethodGet, contactsPath+"?limit=1", nil, &answer); err != nil {
		return destination.Account{}, err
	}
	if answer.Results == nil {
		return destination.Account{}, &destination.Error{Class: destination.Stop, Code: "answer_unreadable", Message: "reading a contact: the answer is not the JSON that HubSpot documents"}
	}
	u, err := url.Parse(a.base)
	if err != nil {
		return destination.Account{}, err
	}
	return destination.Account{ID: u.Host, Name: "HubSpot at " + u.Host + " (it does not tell the portal's id)"}, nil
}

// Fields lists the contact properties of the account. Memberships have none.
func (a *account) Fields(ctx context.Context, object string, _ destination.Config) ([]destination.Field, error) {
	if object != contacts {
		return nil, nil
	}
	var answer struct {
		Results []struct {
			Name         string `json:"name"`
			Label        string `json:"label"`
			Type         string `json:"type"`
			Calculated   bool   `json:"calculated"`
			Archived     bool   `json:"archived"`
			Modification struct {
				ReadOnlyValue bool `json:"readOnlyValue"`
			} `json:"modificationMetadata"`
		} `json:"results"`
	}
	if err := a.read(ctx, "list the contact properties", http.MethodGet, "/crm/v3/properties/contacts", nil, &answer); err != nil {
		return nil, err
	}
	var fields []destination.Field
	for _, p := range answer.Results {
		if !p.Archived {
			fields = append(fields, destination.Field{
				Name: p.Name, Kinds: kinds(p.Type), ReadOnly: p.Modification.ReadOnlyValue || p.Calculated, Doc: p.Label,
			})
		}
	}
	return fields, nil
}

// kinds are what a property's type takes. Text can hold the written form of anything; HubSpot judges it row by row.
func kinds(propertyType string) []warehouse.Kind {
	switch propertyType {
	case "number":
		return []warehouse.Kind{warehouse.Int, warehouse.Float, warehouse.Decimal, warehouse.Text}
	case "date", "datetime":
		return []warehouse.Kind{warehouse.Date, warehouse.Timestamp, warehouse.Text}
	case "bool":
		return []warehouse.Kind{warehouse.Bool, warehouse.Text}
	default:
		return nil
	}
}

// Write delivers a batch to the object it is for.
func (a *account) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	if len(b.Schema.Key) != 1 {
		return nil, &destination.Error{
			Class: destination.Stop, Code: "key", Message: b.Object + " are found by one property, not by several",
			Hint: "choose one column for the sync's key",
		}
	}
	if b.Object == listMembers {
		return a.writeMembers(ctx, b)
	}
	return a.writeContacts(ctx, b)
}

// Close has nothing to let go: connections are the client's.
func (a *account) Close() error { return nil }

// read sends a request that changes nothing and decodes its answer.
func (a *account) read(ctx context.Context, what, method, path string, body []byte, into any) error {
	resp, err := a.http.Read(ctx, httpx.Request{Method: method, URL: a.base + path, Header: a.header, Secrets: a.secrets, Body: body, What: what})
	if err != nil {
		return failure(err)
	}
	if err := json.Unmarshal(resp.Body, into); err != nil {
		return &destination.Error{Class: destination.Unknown, Code: "answer_unreadable", Message: what + ": the answer is not the JSON that HubSpot documents"}
	}
	return nil
}

// traceID names a row within its batch.
func traceID(i int) string { return "row-" + strconv.Itoa(i) }
