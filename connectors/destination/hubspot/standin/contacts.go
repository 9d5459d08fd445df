package standin

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dray-dev/dray/connectors/standin"
)

// input is a row of a batch call.
type input struct {
	ID           *string           `json:"id"`
	IDProperty   string            `json:"idProperty"`
	Trace        string            `json:"objectWriteTraceId"`
	Properties   map[string]string `json:"properties"`
	Associations *[]struct{}       `json:"associations"`
}

type batch struct {
	Inputs []input `json:"inputs"`
}

// batchResult collects an answer. Results go out in another order than the inputs came in.
type batchResult struct {
	started time.Time
	results []map[string]any
	errors  []map[string]any
}

func (h *hub) batchUpsert(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusOK, func(in *input) (*contact, bool, *rowError) {
		found := h.find(in)
		if found == nil {
			if in.IDProperty == "" {
				return nil, false, notFound(*in.ID)
			}
			if _, named := in.Properties[in.IDProperty]; !named {
				in.Properties[in.IDProperty] = *in.ID
			}
		}
		if problem := h.taken(in, found); problem != nil {
			return nil, false, problem
		}
		if found != nil {
			h.set(found, in.Properties)
			return found, false, nil
		}
		return h.add(in.Properties), true, nil
	})
}

func (h *hub) batchUpdate(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusOK, func(in *input) (*contact, bool, *rowError) {
		found := h.find(in)
		if found == nil {
			return nil, false, notFound(*in.ID)
		}
		if problem := h.taken(in, found); problem != nil {
			return nil, false, problem
		}
		h.set(found, in.Properties)
		return found, false, nil
	})
}

func (h *hub) batchCreate(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusCreated, func(in *input) (*contact, bool, *rowError) {
		if problem := h.taken(in, nil); problem != nil {
			return nil, false, problem
		}
		return h.add(in.Properties), true, nil
	})
}

// rowError is what befell one row.
type rowError struct{ category, message string }

func notFound(id string) *rowError {
	return &rowError{"OBJECT_NOT_FOUND", "No contact was found with the id " + id}
}

// find is the contact that an input names.
func (h *hub) find(in *input) *contact {
	if in.IDProperty != "" {
		return h.findBy(in.IDProperty, *in.ID)
	}
	if c := h.contacts[*in.ID]; c != nil && !c.archived {
		return c
	}
	return nil
}

// taken tells whether a unique value of the input belongs to another contact.
func (h *hub) taken(in *input, self *contact) *rowError {
	for name, value := range in.Properties {
		if !h.properties[name].unique {
			continue
		}
		if other := h.findBy(name, value); other != nil && other != self {
			return &rowError{"CONFLICT", fmt.Sprintf("Contact already exists. Existing ID: %s", other.id)}
		}
	}
	return nil
}

// write carries out a batch: the whole of it is refused for what is wrong with the request, a row for what is wrong with its
// values. status is that of an answer without errors; with errors it is 207.
func (h *hub) write(w http.ResponseWriter, r *http.Request, status int, one func(*input) (c *contact, isNew bool, e *rowError)) {
	var b batch
	if !decode(w, r, &b) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if problem := h.checkBatch(&b, status == http.StatusCreated); problem != nil {
		refuse(w, http.StatusBadRequest, problem.category, problem.message)
		return
	}
	out := batchResult{started: h.now()}
	for i := range b.Inputs {
		in := &b.Inputs[i]
		problem := h.checkValues(in)
		var c *contact
		var isNew bool
		if problem == nil {
			c, isNew, problem = one(in)
		}
		if problem != nil {
			out.errors = append(out.errors, standardError(problem, in.Trace))
			continue
		}
		result := c.json(sortedKeys(c.properties))
		if in.Trace != "" {
			result["objectWriteTraceId"] = in.Trace
		}
		if status == http.StatusOK && r.URL.Path == "/crm/v3/objects/contacts/batch/upsert" {
			result["new"] = isNew
		}
		out.results = append(out.results, result)
	}
	out.answer(w, r, h, status)
}

// checkBatch finds what makes HubSpot refuse a whole batch.
func (h *hub) checkBatch(b *batch, creates bool) *rowError {
	if len(b.Inputs) == 0 || len(b.Inputs) > maxInputs {
		return &rowError{"VALIDATION_ERROR", fmt.Sprintf("a batch has between 1 and %d inputs", maxInputs)}
	}
	ids, traces := map[string]bool{}, map[string]bool{}
	for _, in := range b.Inputs {
		if in.Properties == nil || creates == (in.ID != nil) || creates == (in.Associations == nil) {
			return &rowError{"VALIDATION_ERROR", "Invalid input JSON: an input lacks what is required, or has what is not known"}
		}
		if in.ID != nil && (*in.ID == "" || ids[in.IDProperty+"="+*in.ID]) {
			return &rowError{"VALIDATION_ERROR", "Duplicate or empty ids found in batch input"}
		}
		if in.ID != nil {
			ids[in.IDProperty+"="+*in.ID] = true
		}
		if traces[in.Trace] {
			return &rowError{"VALIDATION_ERROR", "Duplicate objectWriteTraceId found in batch input"}
		}
		traces[in.Trace] = in.Trace != ""
		if p := h.properties[in.IDProperty]; in.IDProperty != "" && (p == nil || !p.unique) {
			return &rowError{"VALIDATION_ERROR", fmt.Sprintf("idProperty %q is not a unique property", in.IDProperty)}
		}
		if problem := h.checkNames(&in); problem != nil {
			return problem
		}
	}
	return nil
}

func (h *hub) checkNames(in *input) *rowError {
	for _, name := range sortedKeys(in.Properties) {
		switch p := h.properties[name]; {
		case p == nil:
			return &rowError{"VALIDATION_ERROR", fmt.Sprintf(`Property values were not valid: [{"isValid":false,"message":"Property \"%s\" does not exist","error":"PROPERTY_DOESNT_EXIST","name":"%s"}]`, name, name)}
		case p.readOnly:
			return &rowError{"VALIDATION_ERROR", fmt.Sprintf(`Property values were not valid: [{"isValid":false,"message":"\"%s\" is a read only property","error":"READ_ONLY_VALUE","name":"%s"}]`, name, name)}
		case h.core.BadBatch(in.Properties[name]):
			return &rowError{"VALIDATION_ERROR", "Property values were not valid"}
		}
	}
	return nil
}

func (h *hub) checkValues(in *input) *rowError {
	for _, name := range sortedKeys(in.Properties) {
		value := in.Properties[name]
		if problem := h.properties[name].problem(value); problem != "" {
			return &rowError{"VALIDATION_ERROR", problem}
		}
		if h.core.Bad(value) {
			return &rowError{"VALIDATION_ERROR", "Property values were not valid"}
		}
	}
	return nil
}

func (c *contact) json(names []string) map[string]any {
	properties := map[string]any{
		"hs_object_id": c.id, "createdate": stamp(c.created), "lastmodifieddate": stamp(c.updated),
	}
	for _, name := range names {
		if value, ok := c.properties[name]; ok {
			properties[name] = value
		} else if properties[name] == nil {
			properties[name] = nil
		}
	}
	return map[string]any{
		"id": c.id, "properties": properties, "createdAt": stamp(c.created), "updatedAt": stamp(c.updated), "archived": c.archived,
	}
}

func standardError(e *rowError, trace string) map[string]any {
	context := map[string]any{}
	if trace != "" {
		context["objectWriteTraceId"] = []string{trace}
	}
	return map[string]any{
		"status": "error", "category": e.category, "message": e.message, "context": context, "errors": []any{}, "links": map[string]any{},
	}
}

func (b *batchResult) answer(w http.ResponseWriter, r *http.Request, h *hub, status int) {
	if h.core.Omits(r) && len(b.results) > 0 {
		b.results = b.results[:len(b.results)-1]
	}
	slices.Reverse(b.results)
	body := map[string]any{
		"status": "COMPLETE", "results": b.results, "startedAt": stamp(b.started), "completedAt": stamp(h.now()),
	}
	if b.results == nil {
		body["results"] = []any{}
	}
	if len(b.errors) > 0 {
		status = http.StatusMultiStatus
		body["errors"], body["numErrors"] = b.errors, len(b.errors)
	}
	standin.WriteJSON(w, status, body)
}

func (h *hub) batchArchive(w http.ResponseWriter, r *http.Request) {
	var b struct {
		Inputs []struct {
			ID string `json:"id"`
		} `json:"inputs"`
	}
	if !decode(w, r, &b) {
		return
	}
	if len(b.Inputs) == 0 || len(b.Inputs) > maxInputs {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("a batch has between 1 and %d inputs", maxInputs))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range b.Inputs {
		if c := h.contacts[in.ID]; c != nil && !c.archived {
			c.archived = true
			delete(h.byEmail, c.properties["email"])
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *hub) batchRead(w http.ResponseWriter, r *http.Request) {
	h.readBatch(w, r, "CONTACT", func() map[string]*property { return h.properties }, h.find)
}

// readBatch answers batch/read, alike for all objects. It calls properties and find with h.mu held.
func (h *hub) readBatch(w http.ResponseWriter, r *http.Request, kind string, properties func() map[string]*property, find func(*input) *contact) {
	var b struct {
		IDProperty string    `json:"idProperty"`
		Properties *[]string `json:"properties"`
		History    *[]string `json:"propertiesWithHistory"`
		Inputs     []struct {
			ID string `json:"id"`
		} `json:"inputs"`
	}
	if !decode(w, r, &b) {
		return
	}
	if b.Properties == nil || b.History == nil || len(b.Inputs) == 0 || len(b.Inputs) > maxInputs {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: required fields are missing, or there are more than 100 inputs")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := properties()[b.IDProperty]; b.IDProperty != "" && (p == nil || !p.unique) {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("idProperty %q is not a unique property", b.IDProperty))
		return
	}
	for _, in := range b.Inputs {
		if in.ID == "" || h.core.BadBatch(in.ID) {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid ids found in batch input")
			return
		}
	}
	out := batchResult{started: h.now()}
	var missing []string
	for _, in := range b.Inputs {
		c := find(&input{ID: &in.ID, IDProperty: b.IDProperty})
		if c == nil {
			missing = append(missing, in.ID)
			continue
		}
		out.results = append(out.results, c.json(*b.Properties))
	}
	if len(missing) > 0 {
		e := standardError(&rowError{"OBJECT_NOT_FOUND", "Could not get some " + kind + " objects, they may be deleted or not exist. Check that ids are valid."}, "")
		e["context"] = map[string]any{"ids": missing}
		out.errors = append(out.errors, e)
	}
	out.answer(w, r, h, http.StatusOK)
}
