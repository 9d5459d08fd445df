package standin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/standin"
)

func (l *list) json() map[string]any {
	return map[string]any{
		"listId": l.id, "listVersion": 1, "name": l.name, "objectTypeId": contactType, "processingStatus": "COMPLETE",
		"processingType": l.processing, "size": len(l.members),
	}
}

func (h *hub) byName(name string) *list {
	for _, l := range h.lists {
		if strings.EqualFold(l.name, name) {
			return l
		}
	}
	return nil
}

func (h *hub) createList(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name       string `json:"name"`
		ObjectType string `json:"objectTypeId"`
		Processing string `json:"processingType"`
	}
	if !decode(w, r, &in) {
		return
	}
	if in.Name == "" || in.ObjectType != contactType || !slices.Contains([]string{"MANUAL", "SNAPSHOT"}, in.Processing) {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "name, objectTypeId or processingType are missing or wrong")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName(in.Name) != nil {
		standin.WriteJSON(w, http.StatusBadRequest, map[string]any{
			"status": "error", "category": "VALIDATION_ERROR", "subCategory": "ILS.DUPLICATE_LIST_NAMES", "correlationId": correlation,
			"message": fmt.Sprintf("A list with the name %q already exists.", in.Name),
		})
		return
	}
	standin.WriteJSON(w, http.StatusOK, map[string]any{"list": h.newList(in.Name, in.Processing).json()})
}

func (h *hub) getList(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.showList(w, h.lists[r.PathValue("id")])
}

func (h *hub) findList(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var l *list
	if r.PathValue("type") == contactType {
		l = h.byName(r.PathValue("name"))
	}
	h.showList(w, l)
}

func (h *hub) showList(w http.ResponseWriter, l *list) {
	if l == nil {
		refuse(w, http.StatusNotFound, "OBJECT_NOT_FOUND", "List does not exist.")
		return
	}
	standin.WriteJSON(w, http.StatusOK, map[string]any{"list": l.json()})
}

func (h *hub) members(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lists[r.PathValue("id")]
	if l == nil {
		h.showList(w, nil)
		return
	}
	results := []map[string]any{}
	for _, id := range sortedKeys(l.members) {
		results = append(results, map[string]any{"recordId": id, "membershipTimestamp": stamp(h.now())})
	}
	standin.WriteJSON(w, http.StatusOK, map[string]any{"results": results, "total": len(results)})
}

func (h *hub) addMembers(w http.ResponseWriter, r *http.Request) {
	h.change(w, r, func(l *list, id string) bool {
		if l.members[id] {
			return false
		}
		l.members[id] = true
		return true
	}, "recordsIdsAdded")
}

func (h *hub) removeMembers(w http.ResponseWriter, r *http.Request) {
	h.change(w, r, func(l *list, id string) bool {
		if !l.members[id] {
			return false
		}
		delete(l.members, id)
		return true
	}, "recordIdsRemoved")
}

// change adds or removes members. Ids that are in the list already, or are not, go unmentioned; unknown ones are missing.
func (h *hub) change(w http.ResponseWriter, r *http.Request, one func(l *list, id string) bool, changed string) {
	var ids []string
	if !decode(w, r, &ids) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lists[r.PathValue("id")]
	switch {
	case l == nil:
		h.showList(w, nil)
		return
	case l.processing == "DYNAMIC":
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "The list's processing type does not allow changes to its members.")
		return
	case len(ids) == 0:
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "There are no record ids.")
		return
	}
	answer := map[string][]string{"recordsIdsAdded": {}, "recordIdsRemoved": {}, "recordIdsMissing": {}}
	for _, id := range ids {
		if c := h.contacts[id]; c == nil || c.archived {
			answer["recordIdsMissing"] = append(answer["recordIdsMissing"], id)
		} else if one(l, id) {
			answer[changed] = append(answer[changed], id)
		}
	}
	slices.Reverse(answer[changed])
	if n := len(answer[changed]); h.core.Omits(r) && n > 0 {
		answer[changed] = answer[changed][:n-1]
	}
	standin.WriteJSON(w, http.StatusOK, answer)
}

func (h *hub) readMemberships(w http.ResponseWriter, r *http.Request) {
	var b struct {
		Inputs []struct {
			ObjectType string `json:"objectTypeId"`
			RecordID   string `json:"recordId"`
		} `json:"inputs"`
	}
	if !decode(w, r, &b) {
		return
	}
	if len(b.Inputs) == 0 || len(b.Inputs) > maxInputs {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "a batch has between 1 and 100 inputs")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	results := []map[string]any{}
	for _, in := range b.Inputs {
		memberships := []map[string]any{}
		for _, id := range sortedKeys(h.lists) {
			if l := h.lists[id]; in.ObjectType == contactType && l.members[in.RecordID] {
				memberships = append(memberships, map[string]any{"listId": l.id, "listVersion": 1})
			}
		}
		results = append(results, map[string]any{"objectTypeId": in.ObjectType, "recordId": in.RecordID, "recordListMemberships": memberships})
	}
	standin.WriteJSON(w, http.StatusOK, map[string]any{
		"status": "COMPLETE", "results": results, "startedAt": stamp(h.now()), "completedAt": stamp(h.now()),
	})
}
