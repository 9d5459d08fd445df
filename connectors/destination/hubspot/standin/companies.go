package standin

import (
	"fmt"
	"net/http"
)

// companies are the account's companies: records that contacts may name.
type companies struct {
	properties map[string]*property
	records    map[string]*contact // by id
}

// companyProperties are some of those that every account has. None of them is unique: an account makes one that is.
func companyProperties() map[string]*property {
	out := map[string]*property{}
	for _, p := range []property{
		{name: "name", label: "Company name", kind: "string"},
		{name: "domain", label: "Company Domain Name", kind: "string"},
		{name: "hs_object_id", label: "Record ID", kind: "number", readOnly: true},
	} {
		out[p.name] = &p
	}
	return out
}

func (h *hub) createCompanyProperty(w http.ResponseWriter, r *http.Request) {
	h.newProperty(w, r, func() map[string]*property { return h.companies.properties })
}

func (h *hub) createCompanies(w http.ResponseWriter, r *http.Request) {
	var b batch
	if !decode(w, r, &b) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(b.Inputs) == 0 || len(b.Inputs) > maxInputs {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("a batch has between 1 and %d inputs", maxInputs))
		return
	}
	for _, in := range b.Inputs {
		if in.Properties == nil || in.ID != nil || in.Associations == nil {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: an input lacks what is required, or has what is not known")
			return
		}
		for name := range in.Properties {
			if p := h.companies.properties[name]; p == nil || p.readOnly {
				refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("Property %q does not exist, or is read only", name))
				return
			}
		}
	}
	out := batchResult{started: h.now()}
	for _, in := range b.Inputs {
		if problem := h.companyProblem(in.Properties); problem != nil {
			out.errors = append(out.errors, standardError(problem, in.Trace))
			continue
		}
		c := &contact{id: h.id(), properties: in.Properties, created: h.now(), updated: h.now()}
		h.companies.records[c.id] = c
		result := c.json(sortedKeys(c.properties))
		if in.Trace != "" {
			result["objectWriteTraceId"] = in.Trace
		}
		out.results = append(out.results, result)
	}
	out.answer(w, r, h, http.StatusCreated)
}

// companyProblem finds a value that is not valid, or that another company has and may not be there twice.
func (h *hub) companyProblem(properties map[string]string) *rowError {
	for name, value := range properties {
		p := h.companies.properties[name]
		if problem := p.problem(value); problem != "" {
			return &rowError{"VALIDATION_ERROR", problem}
		}
		if other := h.findCompany(&input{ID: &value, IDProperty: name}); p.unique && other != nil {
			return &rowError{"CONFLICT", "Company already exists. Existing ID: " + other.id}
		}
	}
	return nil
}

func (h *hub) readCompanies(w http.ResponseWriter, r *http.Request) {
	h.readBatch(w, r, "COMPANY", func() map[string]*property { return h.companies.properties }, h.findCompany)
}

// findCompany is the company that an input names.
func (h *hub) findCompany(in *input) *contact {
	if in.IDProperty == "" {
		return h.companies.records[*in.ID]
	}
	for _, c := range h.companies.records {
		if *in.ID != "" && c.properties[in.IDProperty] == *in.ID {
			return c
		}
	}
	return nil
}
