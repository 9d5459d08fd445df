package standin

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/standin"
)

// property is one of the account's contact properties.
type property struct {
	name, label, kind, field string
	options                  []string
	unique, readOnly         bool
}

// usualProperties are some of those that every account has.
func usualProperties() map[string]*property {
	out := map[string]*property{}
	for _, p := range []property{
		{name: "email", label: "Email", kind: "string", unique: true},
		{name: "firstname", label: "First Name", kind: "string"},
		{name: "lastname", label: "Last Name", kind: "string"},
		{name: "phone", label: "Phone Number", kind: "string", field: "phonenumber"},
		{name: "mobilephone", label: "Mobile Phone Number", kind: "string", field: "phonenumber"},
		{name: "company", label: "Company Name", kind: "string"},
		{name: "jobtitle", label: "Job Title", kind: "string"},
		{name: "website", label: "Website URL", kind: "string"},
		{name: "address", label: "Street Address", kind: "string"},
		{name: "city", label: "City", kind: "string"},
		{name: "state", label: "State/Region", kind: "string"},
		{name: "zip", label: "Postal Code", kind: "string"},
		{name: "country", label: "Country/Region", kind: "string"},
		{name: "industry", label: "Industry", kind: "string"},
		{name: "annualrevenue", label: "Annual Revenue", kind: "number"},
		{name: "date_of_birth", label: "Date of birth", kind: "date"},
		{name: "closedate", label: "Close Date", kind: "datetime"},
		{name: "hs_email_optout", label: "Unsubscribed from all email", kind: "bool", readOnly: true},
		{
			name: "lifecyclestage", label: "Lifecycle Stage", kind: "enumeration",
			options: []string{"subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist", "other"},
		},
		{name: "hs_object_id", label: "Record ID", kind: "number", readOnly: true},
		{name: "createdate", label: "Create Date", kind: "datetime", readOnly: true},
		{name: "lastmodifieddate", label: "Last Modified Date", kind: "datetime", readOnly: true},
	} {
		out[p.name] = &p
	}
	return out
}

func (p *property) json() map[string]any {
	field := p.field
	if field == "" {
		field = map[string]string{"string": "text", "number": "number", "date": "date", "datetime": "date", "bool": "booleancheckbox", "enumeration": "select"}[p.kind]
	}
	options := []map[string]any{}
	for i, o := range p.options {
		options = append(options, map[string]any{"label": o, "value": o, "displayOrder": i, "hidden": false})
	}
	return map[string]any{
		"name": p.name, "label": p.label, "type": p.kind, "fieldType": field, "description": "", "groupName": "contactinformation",
		"options": options, "hasUniqueValue": p.unique, "calculated": false, "archived": false, "hidden": false, "formField": true,
		"modificationMetadata": map[string]any{"archivable": false, "readOnlyDefinition": true, "readOnlyValue": p.readOnly},
	}
}

func (h *hub) listProperties(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	results := []map[string]any{}
	for _, name := range sortedKeys(h.properties) {
		results = append(results, h.properties[name].json())
	}
	standin.WriteJSON(w, http.StatusOK, map[string]any{"results": results})
}

// createProperty takes PropertyCreate, so that a rehearsal can have the properties of the real account.
func (h *hub) createProperty(w http.ResponseWriter, r *http.Request) {
	h.newProperty(w, r, func() map[string]*property { return h.properties })
}

func (h *hub) newProperty(w http.ResponseWriter, r *http.Request, of func() map[string]*property) {
	var in struct {
		Name           string `json:"name"`
		Label          string `json:"label"`
		Type           string `json:"type"`
		FieldType      string `json:"fieldType"`
		GroupName      string `json:"groupName"`
		Description    string `json:"description"`
		HasUniqueValue bool   `json:"hasUniqueValue"`
		Options        []struct {
			Label        string `json:"label"`
			Value        string `json:"value"`
			Description  string `json:"description"`
			DisplayOrder int    `json:"displayOrder"`
			Hidden       bool   `json:"hidden"`
		} `json:"options"`
	}
	if !decode(w, r, &in) {
		return
	}
	if in.Name == "" || in.Label == "" || in.FieldType == "" || in.GroupName == "" ||
		!slices.Contains([]string{"string", "number", "date", "datetime", "bool", "enumeration"}, in.Type) {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "name, label, type, fieldType or groupName are missing or wrong")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	properties := of()
	if properties[in.Name] != nil {
		refuse(w, http.StatusConflict, "CONFLICT", fmt.Sprintf("A property named %q already exists.", in.Name))
		return
	}
	p := &property{name: in.Name, label: in.Label, kind: in.Type, field: in.FieldType, unique: in.HasUniqueValue}
	for _, o := range in.Options {
		p.options = append(p.options, o.Value)
	}
	properties[in.Name] = p
	standin.WriteJSON(w, http.StatusCreated, p.json())
}

var address = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)

// problem says why a value is not valid for the property; "" if it is.
func (p *property) problem(value string) string {
	if value == "" {
		return ""
	}
	ok := true
	switch p.kind {
	case "number":
		_, err := strconv.ParseFloat(value, 64)
		ok = err == nil
	case "bool":
		ok = value == "true" || value == "false"
	case "date", "datetime":
		ok = isTime(p.kind, value)
	case "enumeration":
		for _, option := range strings.Split(value, ";") {
			ok = ok && slices.Contains(p.options, option)
		}
	default:
		ok = len([]rune(value)) <= maxText && (p.name != "email" || address.MatchString(value))
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("Property values were not valid: %q is not a valid %s for %s", value, p.kind, p.name)
}

// isTime: ISO 8601 or milliseconds; a date is a day, at midnight UTC where it has a time.
func isTime(kind, value string) bool {
	t, err := time.Parse(time.DateOnly, value)
	if err != nil {
		t, err = time.Parse(time.RFC3339, value)
	}
	if ms, msErr := strconv.ParseInt(value, 10, 64); err != nil && msErr == nil {
		t, err = time.UnixMilli(ms), nil
	}
	return err == nil && (kind == "datetime" || t.UTC().Equal(t.UTC().Truncate(24*time.Hour)))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
